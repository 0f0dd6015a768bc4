"""Formats that keep labels as maps: a PNG of classes per image, and mostly one of instances."""
