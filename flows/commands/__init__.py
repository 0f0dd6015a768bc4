"""The commands of `pseudomask`, a module each: a function with typed arguments, and how its answer is shown."""
