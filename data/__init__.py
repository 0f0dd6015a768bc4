"""Data sets, label formats, image files and the artifact store."""
