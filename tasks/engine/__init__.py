"""The build system: stages, plans, jobs, workers, records of runs."""
