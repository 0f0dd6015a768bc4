"""Commands that look at runs, labels, networks and data sets."""
