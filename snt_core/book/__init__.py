"""From notebooks to the built book."""
