"""What runs: the DAGs and the command line."""
