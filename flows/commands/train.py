"""`pseudomask train`, a network on a run's labels or on ground truth; `pseudomask predict`, what it says of images."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from flows.commands.run import embedded_server, read_result
from flows.commands.tables import show_validation
from flows.engine.collect import writing
from flows.training.prediction import PredictRequest, prepare_prediction
from flows.training.request import TrainRequest, open_training_sets
from tasks.engine.run_record import read_run
from tasks.networks import NETWORKS


def train_network(request: TrainRequest) -> dict[str, Any]:
    """Run the flow, and return what `metrics.json` holds, and where."""
    # Faults of lists and labels need no server, and nobody should wait for one to learn of them.
    with writing(request, "train"):
        open_training_sets(request)
        with embedded_server(request, NETWORKS[request.settings.network].pipeline):
            from flows.training.flow import downstream

            downstream(request)
        return read_result(request)


def predict_images(request: PredictRequest) -> dict[str, Any]:
    """Run the flow, and return where the labels are."""
    with writing(request, "predict"):
        prepared = prepare_prediction(request)
        with embedded_server(request, [node.stage for node in prepared.plan.nodes]):
            from flows.training.flow import predict

            predict(request)
    left_out = [str(problem) for problem in prepared.problems]
    result = {"out": str(request.out), "images": len(prepared.plan.dataset.samples), "left_out": left_out}
    if request.evaluate:
        network = read_run(request.network).settings["network"]
        result |= {"network": network, "validation": json.loads((request.out / "metrics.json").read_text())}
    return result


def show_prediction(result: dict[str, Any], console: Console) -> None:
    """Print how many images were predicted, those that were not, and where the labels are."""
    show_validation(result, console)
    console.print(f"labels of {result['images']} images: {result['out']}", highlight=False, soft_wrap=True)
    for problem in result["left_out"]:
        console.print(f"left out: {problem}", highlight=False, soft_wrap=True, markup=False)


def show_training(result: dict[str, Any], console: Console) -> None:
    """Print the scores on the validation images, where the network is, and the next command to type."""
    run = result["run"]
    show_validation(result, console)
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in result["seconds"].items())
    console.print(f"trained on {result['images']} images; work: {seconds}", highlight=False)
    for problem in result["left_out"]:
        console.print(f"left out: {problem}", highlight=False, soft_wrap=True, markup=False)
    console.print(f"network  {run}/network\nmetrics  {run}/metrics.json", highlight=False, soft_wrap=True)
    following = f"report {run}" if "validation" in result else f"predict {run} --data IMAGES --out LABELS"
    console.print(f"next: pseudomask {following}", highlight=False, soft_wrap=True)
