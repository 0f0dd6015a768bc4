"""`pseudomask train`: a network on a run's labels or on ground truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from rich.console import Console

from flows.commands.command import Command, Written, answering
from flows.commands.tables import show_validation
from flows.engine.collect import writing
from flows.engine.embedded import embedded_server, read_result
from flows.engine.request import handed_over
from flows.training.request import TrainRequest, read_training_sets
from tasks.networks import NETWORKS


def train_network(request: TrainRequest) -> dict[str, Any]:
    """Run the flow, and return what `metrics.json` holds, and where."""
    # Faults of lists and labels need no server, and nobody should wait for one to learn of them.
    with writing(request, "train"):
        found = read_training_sets(request)
        stages = NETWORKS[request.settings.network].pipeline
        with embedded_server(request, stages), handed_over(request, found):
            from flows.training.flow import downstream

            downstream(request)
        return read_result(request)


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


NetworkPreset = Literal[tuple(dict.fromkeys(preset for spec in NETWORKS.values() for preset in spec.presets))]  # pyright: ignore
_TRAIN = Command(
    name="train",
    help="Train a segmentation network on the labels of a run, or on ground truth.",
    request=TrainRequest,
    carry_out=answering(train_network, show_training),
    written={"preset": Written(NetworkPreset)},
)
COMMAND = replace(
    _TRAIN,
    variants={name: replace(_TRAIN, presets=spec.presets, word="network") for name, spec in NETWORKS.items()},
    word="network",
)
