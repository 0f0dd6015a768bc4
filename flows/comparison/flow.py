"""The flow that sets networks side by side, as the tables of papers have them: trained, chosen and tested alike."""

from __future__ import annotations

from flows.comparison.refiner_tables import collect_refiners
from flows.comparison.refiners import CompareRefinersRequest, predictions_of, runs
from flows.comparison.request import CompareRequest, trials
from flows.comparison.results import collect_comparison
from flows.deployment.flow import deployable
from flows.engine.collect import writing
from flows.labels.flow import pseudo_labels
from flows.training.flow import downstream, predict


@deployable("compare")
def compare(request: CompareRequest) -> str:
    """Train and test every network of a table that is not in the store yet, and return the folder of the results.

    Raises:
        DatasetError: A data set cannot be used; every problem is listed.
        StageError: A training failed; what was finished before it is kept.
        ArtifactError: The store or the results cannot be written.
    """
    with writing(request, "compare"):
        all_trials = list(trials(request))
        for trial in all_trials:
            downstream(trial.training)
            for test in trial.tests.values():
                predict(test)
        return str(collect_comparison(request, all_trials))


@deployable("compare-refiners")
def compare_refiners(request: CompareRefinersRequest) -> str:
    """Make the labels and networks of the tables that are not in the store yet, and return the folder of the results.

    Raises:
        DatasetError: The data set cannot be used; every problem is listed.
        StageError: A stage failed; what was finished before it is kept.
        ArtifactError: The store or the results cannot be written.
    """
    with writing(request, "compare"):
        for _, _, run in runs(request):
            pseudo_labels(run)
        for test in predictions_of(request).values():
            predict(test)
        return str(collect_refiners(request))
