"""Compute core of the SNT reproducibility book."""

__version__ = "0.1.0"
