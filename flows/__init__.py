"""What runs: the DAGs and the command line.

Prefect reads its settings when it is imported, which is after this: what the product starts sends no telemetry, and a
server keeps the slots that runs hold in files, wherever it is started. A variable that is set already stays.
"""

import os

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", "prefect.server.concurrency.lease_storage.filesystem")
