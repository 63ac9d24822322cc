"""Compressed models out again: files of the size they should have, ONNX, measured latency."""
