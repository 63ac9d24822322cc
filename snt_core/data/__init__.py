"""Data sets: uint8 images in one canonical order."""
