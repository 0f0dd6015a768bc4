"""The flow `pseudo-labels`: from images with image-level labels to evaluated labels, and networks trained on them."""

from __future__ import annotations

from data.formats.label_folder import SEMANTIC
from flows.downstream import downstream
from flows.execution import make_artifacts
from flows.production.flow import deployable
from flows.production.page import show_labels, show_scores
from flows.request import RunRequest, prepare
from flows.results import collect, record, writing
from flows.train_request import trainings_of


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
        record(request, prepared)
        make_artifacts(request, prepared)
        run = collect(request, prepared)
        show_scores(run)
        show_labels(prepared.plan.dataset, run / "labels" / SEMANTIC)
        for training in trainings_of(request):
            downstream(training)
    return str(run)
