"""Measurements: what was measured, on what, against what, in one run."""
