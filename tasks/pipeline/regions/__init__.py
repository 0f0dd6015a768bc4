"""Labels that follow the regions which a segmenter has found, such as SAM's masks."""

TAKEN = "Regions"
"""Folder of an artifact of stage `labels`: maps of the regions that took a class."""
