"""The flows of segmentation networks: `downstream` trains one on label maps and evaluates it, `predict` applies it."""

from __future__ import annotations

from prefect import flow

from flows.execution import make_artifacts
from flows.results import record
from flows.train_request import PredictRequest, TrainRequest, prepare_prediction, prepare_training
from flows.train_results import collect_network, collect_predictions


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


@flow(name="predict", flow_run_name="{request.out}")
def predict(request: PredictRequest) -> str:
    """Predict the labels of images that are not in the store yet, and collect them in `request.out`.

    Raises:
        DatasetError: Images cannot be used; all of them are listed.
        StageError: A shard failed; the others were finished.
        ArtifactError: The network, the store or the results cannot be read or written.
    """
    prepared = prepare_prediction(request)
    prepared.store.prepare()
    make_artifacts(prepared.plan, prepared.store, num_workers=request.num_workers, device=request.torch_device)
    return str(collect_predictions(request, prepared))
