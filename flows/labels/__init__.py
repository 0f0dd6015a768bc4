"""The flow `pseudo-labels`: its request, presets, flow and results."""
