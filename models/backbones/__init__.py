"""Backbones: the feature levels of image classification networks."""
