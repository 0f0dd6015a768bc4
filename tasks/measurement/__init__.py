"""Sizes, time and memory of networks."""
