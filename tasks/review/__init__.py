"""People look at labels and correct them: what is reviewed, in which order, and what each step changes."""
