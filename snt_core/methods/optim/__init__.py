"""SAM, an optimizer that looks for flat minima."""
