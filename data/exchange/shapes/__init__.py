"""Formats that keep labels as shapes: a list of masks or polygons per image, each with its class."""
