"""Arithmetic on anybody's model: the transformation, SAM, curvature, compression, analysis."""
