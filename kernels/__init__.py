"""Pixel algorithms of label synthesis, one folder each."""
