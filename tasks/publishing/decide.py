"""What a regeneration of published labels has to do, and whether what it made may be published."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, ValidationError

from data.dataset import VOID, Dataset, LabelMap, Sample, SampleWithMore
from data.store.corrections import Corrections
from data.store.publication import Entry
from tasks.config import Config, Fraction, PositiveInt, ascending
from tasks.engine.artifact import SampleDigest
from tasks.pipeline.settings import PipelineConfig

Retrain = Literal["never", "auto", "always"]
# Of the settings, those that decide what the networks are, and those that decide the labels that they give.
TRAINING = (
    "backbone",
    "weights",
    "seed",
    "long_side",
    "refiner",
    "saliency",
    "classifier",
    "cams",
    "relations",
    "irnet",
    "affinity_relations",
    "affinitynet",
    "pixels",
)
INFERENCE = (
    "long_side",
    "refiner",
    "saliency",
    "cams",
    "fields",
    "affinities",
    "affinity_walk",
    "walk",
    "labels",
    "regions",
)
NEAR = 0.65
"""Share of alike letters (`difflib`) from which a name may be a slip of the pen for another."""
Share = Annotated[tuple[Fraction, Fraction], AfterValidator(ascending)]
Count = Annotated[tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], AfterValidator(ascending)]


class Gate(Config):
    """Bounds of a version's statistics; one that leaves them is held for review.

    The means of a version must lie within them, and those of its new labels alone, where these are enough images.

    Attributes:
        background: Share of the pixels that are background, mean over the images.
        classes: Classes in an image's label map, mean.
        instances: Instances found in an image, mean.
        agreement: Least share of pixels that have the label they had in the version before, mean over the images
            that both have and that were labelled anew.
        min_images: New labels of fewer images are not looked at alone.
    """

    background: Share = (0.05, 0.98)
    classes: Count = (0.2, 10.0)
    instances: Count = (0.2, 30.0)
    agreement: Fraction = 0.7
    min_images: PositiveInt = 20


@dataclass(frozen=True)
class Changes:
    """How a data set differs from the images of a version; ids, ascending, each once."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    with_other_saliency: tuple[str, ...] = ()
    with_other_maps: tuple[str, ...] = ()
    with_other_regions: tuple[str, ...] = ()
    with_other_hints: tuple[str, ...] = ()
    with_other_corrections: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        inputs = (self.with_other_maps, self.with_other_regions, self.with_other_hints)
        return any((self.added, self.changed, self.relabelled, self.removed, *inputs, self.with_other_corrections))

    @property
    def to_infer(self) -> tuple[str, ...]:
        """The images that need new labels."""
        others = (*self.with_other_saliency, *self.with_other_maps, *self.with_other_regions, *self.with_other_hints)
        return tuple(sorted({*self.added, *self.changed, *self.relabelled, *others}))

    def counts(self) -> dict[str, int]:
        """Return how many there are of each kind; of other inputs and corrections only where there are any."""
        return {name: len(ids) for name, ids in vars(self).items() if ids or not name.startswith("with_other")}


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes:
        train: Networks are trained, on the whole set.
        images: Ids of the images that get new labels.
        reasons: Why, as sentences.
    """

    train: bool
    images: tuple[str, ...]
    reasons: tuple[str, ...] = field(default=())


def compare(
    dataset: Dataset,
    digests: Mapping[str, SampleDigest],
    entries: Iterable[Entry],
    corrections: Corrections | None = None,
) -> Changes:
    """Compare a data set with a version by the images' bytes, the names of their labels, the bytes of their saliency,
    of their class attention maps, of their regions and of their hints, and what people corrected.

    Raises:
        DatasetError: A correction cannot be read.
    """
    before = {entry.id: entry for entry in entries}
    labels = {sample.id: label_names(dataset, sample.labels) for sample in dataset.samples}
    both = sorted(labels.keys() & before.keys())
    changed = tuple(id for id in both if digests[id].image != before[id].image)
    doubts = {sample.id: doubts_in_words(dataset, sample) for sample in dataset.samples}
    relabelled = {id for id in both if (labels[id], doubts[id]) != (before[id].labels, before[id].doubts)}
    other_saliency = {id for id in both if digests[id].saliency != before[id].saliency}
    other_regions = {id for id in both if digests[id].regions != before[id].regions}
    other_hints = {id for id in both if digests[id].hints != before[id].hints}
    other_maps = {id for id in both if digests[id].cams != before[id].cams}
    # What is corrected of images that are new to the version is laid over the labels that they get.
    known = set(corrections.images) if corrections else ()
    states = {id: corrections.state(id, digests[id].image) for id in both if corrections and id in known}
    corrected = {id for id in both if states.get(id) != before[id].corrections}
    return Changes(
        added=tuple(sorted(labels.keys() - before.keys())),
        changed=changed,
        relabelled=tuple(sorted(relabelled.difference(changed))),
        with_other_saliency=tuple(sorted(other_saliency.difference(changed, relabelled))),
        with_other_maps=tuple(sorted(other_maps.difference(changed, relabelled))),
        with_other_regions=tuple(sorted(other_regions.difference(changed, relabelled))),
        with_other_hints=tuple(sorted(other_hints.difference(changed, relabelled))),
        removed=tuple(sorted(before.keys() - labels.keys())),
        with_other_corrections=tuple(sorted(corrected.difference(changed))),
    )


def label_names(dataset: Dataset, labels: Iterable[int]) -> tuple[str, ...]:
    """Return the names of an image's labels, sorted, as an `Entry` has them."""
    return tuple(sorted(dataset.classes.names[label] for label in labels))


def doubts_in_words(dataset: Dataset, sample: Sample) -> str | None:
    """Return what is not known or not sure of an image's labels, as an `Entry` has it; None where all is."""
    if not isinstance(sample, SampleWithMore) or not (sample.unknown or sample.certainty):
        return None
    names = dataset.classes.names
    sure = sorted(f"{names[c]}: {p:g}" for c, p in zip(sample.labels, sample.certainty or (), strict=False) if p < 1)
    return "; ".join([*sure, *(f"{name}?" for name in sorted(names[c] for c in sample.unknown))])


def decide(
    dataset: Dataset,
    changes: Changes,
    settings: PipelineConfig,
    before: Mapping[str, Any] | None,
    trained_on: Dataset | None,
    retrain: Retrain,
    retrain_share: float,
    corrected: Collection[str] = (),
) -> Decision:
    """Say what has to be done to bring a version up to the data set and the settings.

    Args:
        before: The settings of the version before; None for the first.
        trained_on: What its networks were trained on.
        retrain: "auto" trains for new classes, for training settings that changed, and where more than
            `retrain_share` of the images were not there, or not corrected as now, when the networks were trained.
        corrected: Ids of images whose corrections the networks have not learnt from.
    """
    every = tuple(sample.id for sample in dataset.samples)
    if before is None or trained_on is None:
        return Decision(True, every, ("there is no version yet",))
    new_settings = settings.model_dump(mode="json")
    train: list[str] = []
    if retrain == "always":
        train.append("retraining was asked for")
    elif retrain == "auto":
        if unseen := sorted(_names(dataset) - _names(trained_on)):
            told = (f"{name}{_near(name, _names(trained_on))}" for name in unseen)
            train.append(f"the networks do not know the classes {'; '.join(told)}")
        new = set(every) - {sample.id for sample in trained_on.samples}
        anew = new.union(corrected).intersection(every)
        if len(anew) > retrain_share * len(every):
            seen = "not seen" if anew == new else "not seen, or not as people corrected them since,"
            train.append(f"the networks have {seen} {len(anew)} of {len(every)} images, more than {retrain_share:.0%}")
        train += _differences(before, new_settings, TRAINING)
    if train:
        return Decision(True, every, tuple(train))
    if settings_changed := _differences(before, new_settings, INFERENCE):
        return Decision(False, every, tuple(settings_changed))
    reasons = tuple(f"{count} images {name.replace('_', ' ')}" for name, count in changes.counts().items() if count)
    return Decision(False, changes.to_infer, reasons)


def doubtful_classes(dataset: Dataset, trained_on: Dataset, least: int) -> tuple[str, ...]:
    """Say which classes are new to the networks, have fewer than `least` images, and may be misspelt."""
    known = _names(trained_on)
    counts = Counter(name for sample in dataset.samples for name in label_names(dataset, sample.labels))
    return tuple(
        f"the new class {name!r} has {count} image{'s' * (count > 1)}, fewer than {least}{_near(name, known)}"
        for name, count in sorted(counts.items())
        if name not in known and count < least
    )


def _near(name: str, known: Iterable[str]) -> str:
    """Return ", and is near 'dog'" where a name is nearly that of another class, else nothing."""
    plain = {other.casefold(): other for other in sorted(known)}
    found = get_close_matches(name.casefold(), plain, n=1, cutoff=NEAR)
    return f", and is near {plain[found[0]]!r}" if found else ""


def unchanged(before: Mapping[str, Any], settings: PipelineConfig, retrain: Retrain) -> bool:
    """Whether the settings of a version would give the same networks, where these may change, and labels as these."""
    sections = INFERENCE if retrain == "never" else (*TRAINING, *INFERENCE)
    return not _differences(before, settings.model_dump(mode="json"), sections)


def statistics(labels: LabelMap, instances: LabelMap) -> dict[str, Any]:
    """Return an image's "background" (a share), "classes" and "instances", from its label maps [H, W]."""
    return {
        "background": round(float((labels == 0).mean()), 5),
        "classes": _num_values(labels),
        "instances": _num_values(instances),
    }


def _num_values(labels: LabelMap) -> int:
    """Return how many values a map has beside 0 and void."""
    counts = np.bincount(labels.ravel(), minlength=VOID + 1)
    counts[[0, VOID]] = 0
    return int(np.count_nonzero(counts))


def means(entries: Iterable[Entry]) -> dict[str, float] | None:
    """Return the means of the images' statistics, or None for no images."""
    rows = np.array([(entry.background, entry.classes, entry.instances) for entry in entries], float)
    if not len(rows):
        return None
    return dict(zip(("background", "classes", "instances"), (round(value, 4) for value in rows.mean(0)), strict=True))


def objections(
    gate: Gate, whole: Mapping[str, float] | None, new: Mapping[str, float] | None, agreement: float | None
) -> list[str]:
    """Say which statistics leave the gate's bounds.

    Args:
        whole: Means over a version.
        new: Means over the images that were labelled anew, or None where these are too few.
        agreement: With the version before, or None where there is nothing to compare.
    """
    found = []
    for title, values in (("of the version", whole), ("of the new labels", new)):
        for name, value in (values or {}).items():
            low, high = getattr(gate, name)
            if not low <= value <= high:
                found.append(f"the mean of {name} {title} is {value:g}, the bounds are {low:g} to {high:g}")
    if agreement is not None and agreement < gate.agreement:
        found.append(
            f"the new labels agree with the version before in {agreement:.1%} of the pixels, "
            f"the bound is {gate.agreement:.1%}"
        )
    return found


def _names(dataset: Dataset) -> set[str]:
    return {name for sample in dataset.samples for name in label_names(dataset, sample.labels)}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], sections: Iterable[str]) -> list[str]:
    with contextlib.suppress(ValidationError):
        # What an older version did not know is as it is by default.
        old = PipelineConfig.model_validate(old).model_dump(mode="json")
    changed = [name for name in sections if old.get(name) != new.get(name)]
    return [f"the settings of {', '.join(changed)} are others"] if changed else []
