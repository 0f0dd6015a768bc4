"""The flow `downstream`: a segmentation network trained on label maps, a run's or ground truth, and evaluated."""

from __future__ import annotations

from prefect import flow

from flows.execution import make_artifacts
from flows.results import record
from flows.train_request import TrainRequest, prepare_training
from flows.train_results import collect_network


@flow(name="downstream", flow_run_name="{request.out}")
def downstream(request: TrainRequest) -> str:
    """Train the network unless it is in the store, predict the validation images, and collect all in `request.out`.

    Raises:
        DatasetError: A data set cannot be used; every problem is listed.
        StageError: The training or a shard failed; the others were finished.
        ArtifactError: The store or the results cannot be written.
    """
    prepared = prepare_training(request)
    prepared.store.prepare()
    record(request, prepared)
    make_artifacts(
        prepared.plan,
        prepared.store,
        num_workers=request.num_workers,
        device=request.torch_device,
        num_processes=request.processes,
    )
    return str(collect_network(request, prepared))
