"""What the paper shows and whether it holds."""
