"""The flow `compare`: tables of networks side by side."""
