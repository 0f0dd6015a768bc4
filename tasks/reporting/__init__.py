"""The report of a run: one HTML file with metrics and pictures."""
