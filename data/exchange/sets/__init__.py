"""Formats of whole data sets, photographs included or named."""
