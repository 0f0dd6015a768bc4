"""The flow `regenerate-labels` and its schedules."""
