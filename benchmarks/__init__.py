"""How fast the kernels are, as ratios measured in one run: `make bench`."""
