"""Commands that set networks or runs side by side."""
