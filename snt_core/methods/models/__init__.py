"""Anybody's model taken apart: out of its wrappers, plain weights, and which of them count."""
