"""The files of figures beside `run.json`: their shape, which is checked where they are read.

What is declared here is what commands read. A file may hold more, and lack what is `NotRequired`, as those of other
versions do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Discriminator, Field, Tag, TypeAdapter, ValidationError

# Of Python before 3.12 pydantic does not take typing's own.
from typing_extensions import TypedDict

from data.files import read_regular
from data.store import ArtifactError
from tasks.config import fault_of
from tasks.networks.cooperative import PREDICTIONS

METRICS, HISTORY = "metrics.json", "history.json"
REMEDY = "its own command makes it again"
Score = float | None
"""In [0, 1]; None where there is nothing to score."""


def _known_prediction(name: str) -> str:
    if name not in PREDICTIONS:
        raise ValueError(f"expected one of {', '.join(PREDICTIONS)}, found {name!r:.80}")
    return name


Prediction = Annotated[str, AfterValidator(_known_prediction)]


class SemanticScore(TypedDict):
    """Label maps by one method against ground truth; `threshold` is the background's."""

    miou: Score
    accuracy: Score
    iou: dict[str, Score]
    threshold: NotRequired[float]


class SemanticScores(TypedDict):
    """The methods that a run compares."""

    cam: NotRequired[SemanticScore]
    cam_crf: NotRequired[SemanticScore]
    labels: NotRequired[SemanticScore]


class Precision(TypedDict):
    """Average precision of masks."""

    ap50: Score
    ap70: Score


class ClassPrecision(Precision):
    """Average precision of a class that has `gt` objects."""

    gt: NotRequired[int]


class InstanceScore(Precision):
    """Instances by one method against ground truth; `threshold` is that of the scores."""

    per_class: dict[str, ClassPrecision]
    threshold: NotRequired[float]


class _PrecisionOfMethods(TypedDict):
    cam_components: NotRequired[Precision]
    boundary_components: NotRequired[Precision]
    labels: NotRequired[Precision]


class InstanceScores(TypedDict):
    """The methods that a run compares; on images where objects touch; and by the rule of the paper's authors."""

    cam_components: NotRequired[InstanceScore]
    boundary_components: NotRequired[InstanceScore]
    labels: NotRequired[InstanceScore]
    touching: NotRequired[_PrecisionOfMethods]
    chainercv: NotRequired[_PrecisionOfMethods]


def _of_the_same_classes(scores: Any) -> Any:
    methods = [name for name in ("cam_components", "boundary_components", "labels") if name in scores]
    for name in methods[1:]:
        if scores[name]["per_class"].keys() != scores[methods[0]]["per_class"].keys():
            raise ValueError(f"expected the same classes for {methods[0]} and {name}, found others")
    return scores


class _ClassifierTags(TypedDict):
    ap: NotRequired[dict[str, Score]]
    measured_on: NotRequired[str]


class _RelationTags(TypedDict):
    images_with_confident_pixels: NotRequired[dict[str, float]]


class _LabelTags(TypedDict):
    tags_without_a_pixel: NotRequired[dict[str, int]]


class Tags(TypedDict):
    """What the stages found of the tags."""

    classifier: NotRequired[_ClassifierTags]
    relations: NotRequired[_RelationTags]
    labels: NotRequired[_LabelTags]


class Classes(TypedDict):
    """How many images have each class."""

    images: NotRequired[dict[str, Annotated[int, Field(ge=1)]]]


class ReliabilityBin(TypedDict):
    """Pixels of a range of confidence: its mean, the share whose label is right, and how many they are."""

    confidence: float
    accuracy: float
    pixels: int


class Reliability(TypedDict):
    """Confidence of the labels against ground truth, as `tasks.evaluation.calibration` summarizes it."""

    ece: Score
    auc: Score
    bins: list[ReliabilityBin]


class RunMetrics(TypedDict):
    """`metrics.json` of a run that made labels."""

    semantic: NotRequired[SemanticScores]
    instances: NotRequired[Annotated[InstanceScores, AfterValidator(_of_the_same_classes)]]
    confidence: NotRequired[Reliability]
    tags: NotRequired[Tags]
    classes: NotRequired[Classes]
    seconds: NotRequired[dict[str, float]]
    failures: NotRequired[list[str]]
    warnings: NotRequired[list[str]]


class Saliency(TypedDict):
    """Maps of saliency against masks, which are derived from classes or those of the set."""

    mae: Score
    max_f: Score
    derived_from: list[str]


class Segmented(TypedDict):
    """Predicted label maps against ground truth."""

    miou: Score
    accuracy: Score
    class_accuracy: Score
    boundary_f: Score
    iou: dict[str, Score]
    accuracy_per_class: dict[str, Score]
    boundary_f_per_class: dict[str, Score]
    saliency: NotRequired[Saliency]
    prediction: NotRequired[Prediction]


class CocoPrecision(TypedDict):
    """Average precision by COCO's rule; `ap` is the mean over its thresholds."""

    ap: Score


class Detected(Precision):
    """Predicted instances against ground truth."""

    per_class: dict[str, ClassPrecision]
    coco: CocoPrecision


def _kind_of_scores(scores: Any) -> Literal["semantic", "instances"]:
    return "instances" if isinstance(scores, dict) and "ap50" in scores else "semantic"


Validation = Annotated[
    Annotated[Segmented, Tag("semantic")] | Annotated[Detected, Tag("instances")], Discriminator(_kind_of_scores)
]


class Trained(TypedDict):
    """What a training of a network says of itself; `prediction` is of two networks that learned together."""

    prediction: NotRequired[Prediction]


class TrainingMetrics(TypedDict):
    """`metrics.json` of a training."""

    validation: NotRequired[Validation]
    training: NotRequired[Trained]
    seconds: NotRequired[dict[str, float]]


_RUN, _TRAINING = TypeAdapter(RunMetrics), TypeAdapter(TrainingMetrics)
_EPOCHS = TypeAdapter(list[dict[str, float]])


def read_run_metrics(run: Path) -> dict[str, Any]:
    """Return what `metrics.json` of a run that made labels holds: `RunMetrics`, and whatever else is in it.

    Raises:
        ArtifactError: It cannot be read, or has another shape.
    """
    return _read(run / METRICS, _RUN, "the metrics of a run")


def read_training_metrics(training: Path) -> dict[str, Any]:
    """Return what `metrics.json` of a training holds: `TrainingMetrics`, and whatever else is in it.

    Raises:
        ArtifactError: It cannot be read, or has another shape.
    """
    return _read(training / METRICS, _TRAINING, "the metrics of a training")


def read_history(training: Path) -> list[dict[str, float]]:
    """Return the mean figures of each epoch of a training, by their names.

    Raises:
        ArtifactError: `network/history.json` cannot be read, or has another shape.
    """
    file = training / "network" / HISTORY
    return _read(file, _EPOCHS, "the figures of a training's epochs")


def _read(file: Path, kind: TypeAdapter[Any], expected: str) -> Any:
    try:
        content = read_regular(file)
        kind.validate_json(content, strict=True)
        # As it was written: what is not declared stays, in its order.
        return json.loads(content)
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read ({error.strerror or error}); {REMEDY}") from None
    except ValidationError as error:
        raise ArtifactError(f"{file}: cannot be read as {expected} ({fault_of(error)}); {REMEDY}") from None
