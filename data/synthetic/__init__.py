"""The synthetic data set: shapes on textured grounds, drawn from a seed."""
