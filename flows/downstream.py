"""The flows of segmentation networks: `downstream` trains one on label maps and evaluates it, `predict` applies it."""

from __future__ import annotations

from dataclasses import replace

from data.label_folder import SEMANTIC
from flows.execution import make_artifacts
from flows.network_requests import (
    CooperativeRequest,
    DeepLabV2Request,
    DeepLabV3PlusRequest,
    MaskRCNNRequest,
    SaliencyRequest,
    SceneRequest,
)
from flows.predict_request import PredictRequest, prepare_prediction
from flows.production.flow import deployable
from flows.production.page import show_labels, show_scores
from flows.results import record, writing
from flows.train_request import TrainRequest, prepare_training
from flows.train_results import collect_network, collect_predictions


@deployable("deeplabv2")
def deeplabv2(request: DeepLabV2Request) -> str:
    """Train DeepLab v2; as `downstream`, with a form of its own in Prefect's UI."""
    return _train(request)


@deployable("maskrcnn")
def maskrcnn(request: MaskRCNNRequest) -> str:
    """Train Mask R-CNN; as `downstream`, with a form of its own in Prefect's UI."""
    return _train(request)


@deployable("segnet")
def segnet(request: SceneRequest) -> str:
    """Train SegNet, a variant, or what it is measured against; as `downstream`, with a form in Prefect's UI."""
    return _train(request)


@deployable("deeplabv3plus")
def deeplabv3plus(request: DeepLabV3PlusRequest) -> str:
    """Train DeepLab v3+; as `downstream`, with a form of its own in Prefect's UI."""
    return _train(request)


@deployable("saliency")
def saliency(request: SaliencyRequest) -> str:
    """Train DeepLab v3+ that learns saliency too; as `downstream`, with a form of its own in Prefect's UI."""
    return _train(request)


@deployable("cooperative")
def cooperative(request: CooperativeRequest) -> str:
    """Train two networks that cooperate; as `downstream`, with a form of its own in Prefect's UI."""
    return _train(request)


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
        prepared = prepare_prediction(request)
        prepared.ready_store()
        make_artifacts(request, prepared)
        return str(collect_predictions(request, prepared))


def _train(request: TrainRequest) -> str:
    with writing(request, "train"):
        prepared = prepare_training(request)
        prepared.ready_store()
        record(request, prepared)
        make_artifacts(request, prepared, num_processes=request.processes)
        run = collect_network(request, prepared)
    show_scores(run)
    tested = replace(prepared.plan.dataset, samples=prepared.plan.validation.samples)
    show_labels(tested, run / "predictions" / SEMANTIC)
    return str(run)
