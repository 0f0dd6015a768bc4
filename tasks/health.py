"""Whether the stages of a run have worked: what each found of the tags, and what makes the rest meaningless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.dataset import ClassTable, Sample

CHANCE = 0.02
"""A classifier is at chance where more than this share of random assignments of the tags score as high as it does."""
WEAK = 0.25
"""A class is weak whose average precision has covered less than this share of the way from chance to 1."""
EMPTY = 0.01
"""Share of the tagged images that may come out without any labelled pixel before the run warns."""
FEW_IMAGES = 5
LISTED = 10
CHECKED = ("classifier", "relations", "labels")
"""The stages that are judged."""


@dataclass(frozen=True)
class Health:
    """What is to be said of a stage.

    Attributes:
        facts: For `metrics.json`.
        failures: What makes the stages after it meaningless, as sentences with cause and remedy.
        warnings: What makes the labels worse than they could be, likewise.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_stage(
    stage: str,
    summaries: Sequence[Mapping[str, Any]],
    samples: Iterable[Sample],
    classes: ClassTable,
    *,
    trained: bool = True,
) -> Health:
    """Judge a stage by what its functions returned.

    Args:
        stage: Its name.
        summaries: Of all its artifacts.
        samples: The images of the run.
        classes: Their class table.
        trained: Whether the run trains its networks itself; else few images prove nothing against them.
    """
    if stage == "classifier":
        return _check_classifier(summaries[0].get("tags") or {})
    if stage == "relations":
        return _check_relations(summaries, classes)
    if stage == "labels":
        return _check_labels(summaries, samples, classes, trained)
    return Health()


def _check_classifier(tags: Mapping[str, Any]) -> Health:
    if not tags or tags["mean_ap"] is None:
        return Health({"classifier": dict(tags)} if tags else {})
    where = {"folds": f"in folds over {tags['images']} images"}.get(
        tags["measured_on"], f"on {tags['images']} {tags['measured_on']}"
    )
    failures, warnings = [], []
    chance = tags["chance"]
    # A classifier may know its own training images by heart.
    if chance is not None and chance > CHANCE and tags["measured_on"] != "training images":
        share = sum(tags["share"].values()) / len(tags["share"])
        failures.append(
            f"The classifier tells the tags no better than chance {where}: mean average precision "
            f"{tags['mean_ap']:.0%}, the tags' mean share of the images {share:.0%}, and {chance:.0%} of random "
            "assignments of the tags score as high. So its attention maps, and every label made from them, mean "
            "nothing. Check that the tags belong to the images (pseudomask doctor), start from ImageNet weights "
            "(--weights), or bring more images of each tag"
        )
    shares = tags["share"]
    weak = {name: ap for name, ap in tags["ap"].items() if ap - shares[name] < WEAK * (1 - shares[name])}
    if weak and not failures:
        told = ", ".join(f"{name} {ap:.0%} (chance {shares[name]:.0%})" for name, ap in _few(sorted(weak.items())))
        warnings.append(
            f"The classifier hardly tells {len(weak)} of {len(shares)} classes {where}: average precision {told}. "
            "Their labels will be poor: look at their tags, and bring more images with and without them"
        )
    return Health({"classifier": dict(tags)}, tuple(failures), tuple(warnings))


def _check_relations(summaries: Sequence[Mapping[str, Any]], classes: ClassTable) -> Health:
    tags, found = (_sum(summaries, name) for name in ("tags", "tags_found"))
    if not tags:
        return Health()
    shares = {classes.names[c]: round(found[c] / count, 4) for c, count in sorted(tags.items())}
    area = _sum(summaries, "tags_area")
    areas = {classes.names[c]: round(area[c] / count, 4) for c, count in sorted(tags.items())}
    facts = {"relations": {"images_with_confident_pixels": shares, "confident_area": areas}}
    if not any(found.values()):
        failure = (
            f"No image has a pixel that is surely foreground ({sum(tags.values())} tags), so IRNet has nothing to "
            "learn from. The attention maps are empty or spread over the whole image: train the classifier longer "
            "(--classifier.steps), start it from ImageNet weights (--weights), or lower "
            "--relations.foreground-threshold"
        )
        return Health(facts, (failure,))
    none = [name for name, share in shares.items() if share == 0]
    warnings = ()
    if none:
        warnings = (
            f"No image has a pixel that is surely {_listed(none, 'or')}, so IRNet learns nothing of their borders: "
            "bring more images with these tags",
        )
    return Health(facts, (), warnings)


def _check_labels(
    summaries: Sequence[Mapping[str, Any]], samples: Iterable[Sample], classes: ClassTable, trained: bool
) -> Health:
    labels_of = {sample.id: sample.labels for sample in samples if sample.labels}
    if not labels_of:
        return Health()
    tags = _sum(summaries, "tags")
    without = {id: tuple(missing) for summary in summaries for id, missing in summary.get("empty", {}).items()}
    lost = Counter(c for missing in without.values() for c in missing)
    empty = sorted(id for id, missing in without.items() if len(missing) == len(labels_of[id]))
    facts = {
        "labels": {
            "tagged_images": len(labels_of),
            "images_without_a_pixel": len(empty),
            "tags": sum(tags.values()),
            "tags_without_a_pixel": {classes.names[c]: count for c, count in sorted(lost.items())},
            "empty": empty,
        }
    }
    told = f"{len(empty)} of {len(labels_of)} tagged images have no labelled pixel"
    remedy = (
        "Look at their attention maps in the report, lower --labels.background-threshold, "
        "or train the classifier longer"
    )
    if len(empty) == len(labels_of) and (trained or len(labels_of) >= FEW_IMAGES):
        return Health(facts, (f"{told}: the labels are empty. {remedy}",))
    if len(empty) > EMPTY * len(labels_of):
        return Health(facts, (), (f"{told}: {_listed(empty)}. {remedy}",))
    if wholly := [classes.names[c] for c, count in sorted(lost.items()) if count == tags[c]]:
        return Health(facts, (), (f"No image has a labelled pixel of {_listed(wholly, 'or')}. {remedy}",))
    return Health(facts)


def _sum(summaries: Sequence[Mapping[str, Any]], name: str) -> Counter[Any]:
    # The keys of JSON objects are strings.
    total: Counter[Any] = Counter()
    for summary in summaries:
        total.update({int(c): count for c, count in summary.get(name, {}).items()})
    return total


def _few(items: Sequence[Any]) -> Sequence[Any]:
    return items[:LISTED]


def _listed(names: Sequence[str], last: str = "and") -> str:
    shown = _few(names)
    if len(names) > len(shown):
        return f"{', '.join(shown)} and {len(names) - len(shown)} more"
    return f" {last} ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]
