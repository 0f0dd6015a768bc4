"""The folder of a training: the network, its predictions and metrics."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from data.store import explain_os_errors
from flows.request import Prepared
from flows.results import copy_files, write_text
from flows.train_request import TrainRequest
from tasks.stages import NETWORK_STAGES

PREDICTIONS = "predictions"


def collect_network(request: TrainRequest, prepared: Prepared) -> Path:
    """Bring a finished training's artifacts together in `request.out`, and return that folder.

    `network` has the weights, their history and logs; `predictions` what it says of the validation images.

    Raises:
        ArtifactError: The folder cannot be written.
    """
    run, plan, store = request.out, prepared.plan, prepared.store
    name = request.settings.network
    manifests = {node.key: store.read_manifest(node.stage.name, node.key) for node in plan.nodes}
    _, predictions, _, metrics = (stage.name for stage in NETWORK_STAGES[name])
    with explain_os_errors(run):
        for stage, folder in ((name, run / "network"), (predictions, run / PREDICTIONS)):
            copy_files([(store.path(stage, node.key), manifests[node.key]["files"]) for node in plan.of(stage)], folder)
        seconds: dict[str, float] = defaultdict(float)
        for node in plan.nodes:
            seconds[node.stage.name] += manifests[node.key]["seconds"]
        (trained,) = plan.of(name)
        result = {
            "network": name,
            "images": len(trained.samples),
            "training": manifests[trained.key]["summary"],
            "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        }
        for node in plan.of(metrics):
            result["validation"] = json.loads((store.path(metrics, node.key) / "metrics.json").read_text())
        write_text(run / "metrics.json", json.dumps(result, indent=1))
        write_text(run / PREDICTIONS / "classes.txt", "".join(f"{name}\n" for name in plan.dataset.classes.names))
    return run
