"""`pseudomask train`: a network on a run's labels or on ground truth."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from flows.commands.evaluate import instance_table, semantic_table
from flows.commands.run import embedded_server, read_result
from flows.train_request import TrainRequest, open_training_sets
from tasks.stages import NETWORK_STAGES


def train_network(request: TrainRequest) -> dict[str, Any]:
    """Run the flow, and return what `metrics.json` holds, and where."""
    # Faults of lists and labels need no server, and nobody should wait for one to learn of them.
    open_training_sets(request)
    with embedded_server(request, NETWORK_STAGES[request.settings.network]):
        from flows.downstream import downstream

        downstream(request)
    return read_result(request)


def show_training(result: dict[str, Any], console: Console) -> None:
    """Print the scores on the validation images, where the network is, and the next command to type."""
    run = result["run"]
    if validation := result.get("validation"):
        title = f"{result['network']} on {validation['images']} images, in percent"
        console.print(semantic_table(validation, title) if "iou" in validation else instance_table(validation, title))
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in result["seconds"].items())
    console.print(f"trained on {result['images']} images; work: {seconds}", highlight=False)
    console.print(f"network  {run}/network\nmetrics  {run}/metrics.json", highlight=False, soft_wrap=True)
