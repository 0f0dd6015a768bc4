"""The flows of segmentation networks: `downstream` trains one on label maps and evaluates it, `predict` applies it.

Each deployment of `tasks.networks` has a flow here that is named after it, which prefect.yaml names.
"""

from __future__ import annotations

from dataclasses import replace

from prefect import Flow

from data.formats.label_folder import SEMANTIC
from flows.deployment.flow import deployable
from flows.deployment.turn import make_in_turn
from flows.deployment.ui import show_labels, show_scores
from flows.engine.collect import write_run_record, writing
from flows.engine.request import take_over
from flows.training.network_requests import TRAIN_REQUESTS
from flows.training.prediction import PredictRequest, prepare_prediction
from flows.training.request import TrainRequest, prepare_training
from flows.training.results import collect_network, collect_predictions


@deployable("downstream")
def downstream(request: TrainRequest) -> str:
    """Train the network unless it is in the store, predict the validation images, and collect all in `request.out`.

    Raises:
        DatasetError: A data set cannot be used; every problem is listed.
        StageError: The training or a shard failed; the others were finished.
        ArtifactError: The store or the results cannot be written.
    """
    return _train(request)


@deployable("predict")
def predict(request: PredictRequest) -> str:
    """Predict the labels of images that are not in the store yet, and collect them in `request.out`.

    Raises:
        DatasetError: Images cannot be used; all of them are listed.
        StageError: A shard failed; the others were finished.
        ArtifactError: The network, the store or the results cannot be read or written.
    """
    with writing(request, "predict"):
        prepared = take_over(request, lambda: prepare_prediction(request))
        prepared.ready_store()
        make_in_turn(request, prepared)
        return str(collect_predictions(request, prepared))


def _train(request: TrainRequest) -> str:
    with writing(request, "train"):
        prepared = prepare_training(request)
        prepared.ready_store()
        write_run_record(request, prepared, "train")
        make_in_turn(request, prepared, num_processes=request.processes)
        run = collect_network(request, prepared)
    show_scores(run)
    tested = replace(prepared.plan.dataset, samples=prepared.plan.validation.samples)
    show_labels(tested, run / "predictions" / SEMANTIC)
    return str(run)


def _flow(name: str, request_class: type[TrainRequest]) -> Flow[..., str]:
    """Return the flow of a deployment: as `downstream`, with a form of its own in Prefect's UI."""

    def train(request: TrainRequest) -> str:
        return _train(request)

    train.__name__ = train.__qualname__ = name
    train.__doc__ = request_class.__doc__
    train.__annotations__ = {"request": request_class, "return": str}
    return deployable(name)(train)


globals().update({name: _flow(name, request_class) for name, request_class in TRAIN_REQUESTS.items()})
