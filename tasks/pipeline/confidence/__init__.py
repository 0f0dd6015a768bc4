"""How sure labels are: of each pixel, and of each image."""
