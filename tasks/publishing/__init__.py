"""Versions of published labels: what changed, whether it may be published, its files."""
