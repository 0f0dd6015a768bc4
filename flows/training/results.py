"""The folder of a training: the network, its predictions and metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data.files import atomic_write, explain_os_errors
from flows.engine.collect import collect_labels, copy_file, read_work, writing
from flows.engine.request import PlannedRun
from flows.training.prediction import PredictRequest
from flows.training.request import TrainRequest
from tasks.engine.run_record import read_run
from tasks.networks import NETWORKS
from tasks.reporting.figures import read_training_metrics


def collect_network(request: TrainRequest, prepared: PlannedRun) -> Path:
    """Bring a finished training's artifacts together in `request.out`, and return that folder.

    `network` has the weights, their history and logs; `predictions` what it says of the validation images.

    Raises:
        ArtifactError: The folder cannot be written.
    """
    run, plan, store = request.out, prepared.plan, prepared.store
    name = request.settings.network
    _, predictions, _, metrics = (stage.name for stage in NETWORKS[name].pipeline)
    (trained,) = plan.of(name)
    folder = store.fetch(name, trained.key)
    with writing(request, "train") as output, explain_os_errors(run):
        files = store.read_manifest(name, trained.key)["files"]
        output.claim(f"network/{file}" for file in files)
        for file, entry in files.items():
            copy_file(folder / file, run / "network" / file, entry)
        if tested := plan.of(predictions):
            collect_labels(output, "predictions", tested, store, plan.dataset)
        work = read_work(plan, store)
        result = {
            "network": name,
            "images": len(trained.samples),
            "left_out": [str(problem) for problem in prepared.problems],
            "training": work["training"][name],
            "seconds": work["seconds"],
        }
        for artifact in plan.of(metrics):
            scores = json.loads((store.fetch(metrics, artifact.key) / "metrics.json").read_text())
            result["validation"] = {**scores, **_what_counts(result["training"])}
        output.claim(["metrics.json"])
        atomic_write(run / "metrics.json", json.dumps(result, indent=1))
    return run


def collect_predictions(request: PredictRequest, prepared: PlannedRun) -> Path:
    """Bring the label maps of finished predictions together in `request.out`, with COCO JSON where there are instances.

    `metrics.json` has their scores where they were evaluated.

    Raises:
        ArtifactError: The folder cannot be written.
    """
    plan, store = prepared.plan, prepared.store
    network = read_run(request.network).settings["network"]
    _, predictions, _, metrics = (stage.name for stage in NETWORKS[network].pipeline)
    with writing(request, "predict") as output, explain_os_errors(request.out):
        collect_labels(output, "", plan.of(predictions), store, plan.dataset)
        for artifact in plan.of(metrics):
            scores = json.loads((store.fetch(metrics, artifact.key) / "metrics.json").read_text())
            training = read_training_metrics(request.network).get("training", {})
            output.claim(["metrics.json"])
            atomic_write(request.out / "metrics.json", json.dumps({**scores, **_what_counts(training)}, indent=1))
    return request.out


def _what_counts(training: dict[str, Any]) -> dict[str, Any]:
    """Return which output of two networks is the prediction that scores are of, where there are two."""
    return {name: training[name] for name in ("prediction",) if name in training}
