"""Nightshoot: a manifest of prompts and photos becomes batch jobs, and those become pictures and an index."""

__version__ = "0.1.0"
