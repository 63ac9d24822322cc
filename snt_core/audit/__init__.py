"""An audit of anybody's network: what compressing it costs, measured within a budget of time."""
