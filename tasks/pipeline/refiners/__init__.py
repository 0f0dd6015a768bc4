"""Stages of the refiners that are not IRNet: AffinityNet, and none."""
