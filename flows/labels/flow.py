"""The flow `pseudo-labels`: from images with image-level labels to evaluated labels, and networks trained on them."""

from __future__ import annotations

from data.formats.label_folder import SEMANTIC
from flows.deployment.flow import deployable
from flows.deployment.turn import make_in_turn
from flows.deployment.ui import show_labels, show_scores
from flows.engine.collect import write_run_record, writing
from flows.labels.presets import network_preset
from flows.labels.request import RunRequest, prepare
from flows.labels.results import collect
from flows.training.flow import downstream
from flows.training.request import TrainRequest
from tasks.networks import NETWORKS


@deployable("pseudo-labels")
def pseudo_labels(request: RunRequest) -> str:
    """Run every stage whose artifacts are not in the store yet, and collect the results in `request.out`.

    Then train the networks of `request.train` on the labels.

    Raises:
        DatasetError: The data set cannot be used; every problem is listed.
        StageError: A shard failed; the others were finished.
        ArtifactError: The store or the results cannot be written.
    """
    with writing(request, "run"):
        prepared = prepare(request)
        prepared.ready_store()
        write_run_record(request, prepared, "run")
        make_in_turn(request, prepared, go_on=request.go_on)
        run = collect(request, prepared)
        show_scores(run)
        show_labels(prepared.plan.dataset, run / "labels" / SEMANTIC)
        for training in trainings_of(request):
            downstream(training)
    return str(run)


def trainings_of(request: RunRequest) -> list[TrainRequest]:
    """Return the trainings that a run ends with: each network's preset of the run's name, on the run's backbone.

    Networks start from the weights that the run did, or without such from its classifier.
    """
    preset = network_preset(request.preset)
    where = {**request.where, "preset": preset}
    shared = {
        "seed": request.settings.seed,
        "backbone": request.settings.backbone,
        "weights": request.settings.weights or request.out.absolute(),
    }
    return [
        TrainRequest(
            labels=request.out.absolute(),
            val=request.val,
            out=request.out / name,
            **where,
            settings=NETWORKS[name].presets[preset]().model_copy(update=shared),
        )
        for name in request.train
    ]
