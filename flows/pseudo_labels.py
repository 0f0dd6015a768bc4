"""The flow `pseudo-labels`: from images with image-level labels to evaluated labels, and networks trained on them."""

from __future__ import annotations

from prefect import flow

from flows.downstream import downstream
from flows.execution import make_artifacts
from flows.network_presets import trainings_of
from flows.request import RunRequest, prepare
from flows.results import collect, record


@flow(name="pseudo-labels", flow_run_name="{request.out}")
def pseudo_labels(request: RunRequest) -> str:
    """Run every stage whose artifacts are not in the store yet, and collect the results in `request.out`.

    Then train the networks of `request.train` on the labels.

    Raises:
        DatasetError: The data set cannot be used; every problem is listed.
        StageError: A shard failed; the others were finished.
        ArtifactError: The store or the results cannot be written.
    """
    prepared = prepare(request)
    prepared.store.prepare()
    record(request, prepared)
    make_artifacts(prepared.plan, prepared.store, num_workers=request.num_workers, device=request.torch_device)
    run = collect(request, prepared)
    for training in trainings_of(request):
        downstream(training)
    return str(run)
