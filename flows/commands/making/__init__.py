"""Commands that make labels and networks."""
