"""A plan as Prefect tasks: request, execution, cluster, server, progress."""
