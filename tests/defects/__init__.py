"""Planted one-line defects, each of which must make some test fail. Otherwise the test is not worth its time."""
