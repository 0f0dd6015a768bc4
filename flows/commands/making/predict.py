"""`pseudomask predict`: what a trained network says of images."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from flows.commands.command import HIDDEN, POSITIONAL, Command, answering
from flows.commands.tables import show_validation
from flows.engine.collect import writing
from flows.engine.embedded import embedded_server
from flows.engine.request import handed_over
from flows.training.prediction import PredictRequest, prepare_prediction
from tasks.engine.run_record import read_run


def predict_images(request: PredictRequest) -> dict[str, Any]:
    """Run the flow, and return where the labels are."""
    with writing(request, "predict"):
        prepared = prepare_prediction(request)
        stages = [artifact.stage for artifact in prepared.plan.artifacts]
        with embedded_server(request, stages), handed_over(request, prepared):
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


COMMAND = Command(
    name="predict",
    help="The labels of images, from a trained network: palette PNGs, and COCO JSON of instances.",
    request=PredictRequest,
    carry_out=answering(predict_images, show_prediction),
    written={"network": POSITIONAL, "preset": HIDDEN},
)
