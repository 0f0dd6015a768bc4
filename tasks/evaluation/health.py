"""Whether the stages of a run have worked: what each found of the tags, and what makes the rest meaningless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.dataset import ClassTable, Sample, unknown_classes
from tasks.config import Config
from tasks.evaluation.tag_scores import FEW_ALIKE

CHANCE, CHANCE_OF_FEW, MANY_IMAGES = 0.02, 0.2, 100
"""A classifier is at chance where more than this share of random assignments of the tags score as high as it does; the
second where it is judged on fewer images."""
WEAK = 0.25
"""A class is weak whose average precision has covered less than this share of the way from chance to 1."""
UNTOLD = 0.1
"""A classifier tells nothing that labels could be made from whose average precisions on held-out images have covered
less than this share of the way from chance to 1, mean over the classes."""
EMPTY = 0.01
"""Share of the tagged images that may come out without any labelled pixel before the run warns."""
MOSTLY = 0.5
LOSS = 0.01
"""A class has lost by the refinement whose IoU fell by more than this."""
FEW_IMAGES = 5
LEAST_SPREAD_PX = 1.0
"""A displacement field has collapsed whose standard deviation over the foreground stays below this."""
LISTED = 10
LOST = 0.02
"""Share of the tags with an attention map that labels may have no pixel of before the run warns."""
SHRUNK, FEWEST_SHRUNK = 1 / 3, 3
"""A class shrinks in the second round that loses most of its area in this share of its images, and in so many."""
LEAST_SALIENT = 0.2
"""A class is hidden by saliency whose CAMs are salient to less than this share, mean over its images."""
REMARKS = {
    "above 1": "each such map was divided by its highest score",
    "negative": "these were taken for 0",
    "not finite": "these were taken for 0; make such maps again",
}
"""What files of another method held -> what was made of it."""
ALL_EMPTY = (
    "All class attention maps are empty: look at the files, and make them again or name their form (--cam-family)"
)
TRAINED = {"irnet": "IRNet", "affinitynet": "AffinityNet"}
"""Refiner -> the name of its network."""
CHECKED = ("classifier", "cams", "relations", "irnet", "walk", "labels", "quality")
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


def collapse_of(summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """Say with its numbers that a displacement field has collapsed, and None of one that has not.

    Args:
        summary: Of stage `irnet`.
        settings: Its settings; the remedy names those that are not set yet.
    """
    spread = summary["displacement_spread_px"]
    if spread is None:
        return (
            "The displacement field has nothing to point to: no image has confident foreground. See the warnings of "
            "the relations."
        )
    if spread >= LEAST_SPREAD_PX:
        return None
    varies = f"varies by {spread:.2f} feature pixels"
    if "instances" in summary:
        varies += f", and finds {summary['instances']} instances in {_counted(summary['components'], 'connected area')}"
    remedies = ["train IRNet longer (--irnet.steps, --irnet.epochs)"]
    if settings.get("optimizer") != "adamw":
        remedies.append("by AdamW (--irnet.optimizer adamw)")
    if not settings.get("rest_warmup"):
        remedies.append("with a share of --irnet.rest-warmup")
    return (
        f"The displacement field has collapsed: within the foreground it {varies}. Its foreground loss is "
        f"{summary['fg_displacement']:.2f} (a field of zeros has {summary['displacement_plateau']:.2f}), its "
        f"background loss {summary['bg_displacement']:.3f}. Instances of one class that touch are not separated; "
        f"{', '.join(remedies)}."
    )


def check_stage(
    stage: str,
    summaries: Sequence[Mapping[str, Any]],
    samples: Iterable[Sample],
    classes: ClassTable,
    *,
    trained: bool = True,
    config: Config | None = None,
    external: bool = False,
    by_pixels: bool = False,
) -> Health:
    """Judge a stage by what its functions returned.

    Args:
        stage: Its name.
        summaries: Of all its artifacts.
        samples: The images of the run.
        classes: Their class table.
        trained: Whether the run trains its networks itself; else few images prove nothing against them.
        config: Its settings.
        external: Whether another method made the attention maps, so that no classifier is at fault.
        by_pixels: Whether a second round over the set makes the labels.
    """
    if stage == "classifier":
        return _check_classifier(summaries[0], sum(not (each.labels or unknown_classes(each)) for each in samples))
    if stage == "cams":
        return _check_cams(summaries, classes)
    if stage == "relations":
        return _check_relations(summaries, classes, external, config)
    if stage == "irnet":
        told = collapse_of(summaries[0], config.model_dump() if config else {})
        return Health(warnings=(told,) if told else ())
    if stage == "walk":
        return _check_walk(summaries, classes)
    if stage == "labels":
        found = _check_labels(summaries, samples, classes, trained, external, by_pixels)
        return _with_regions(found, summaries)
    if stage == "quality":
        return _check_quality(summaries, classes)
    return Health()


def warn_of_refinement(scores: Mapping[str, Any], refiner: str = "irnet") -> tuple[str, ...]:
    """Say that labels score lower against ground truth than the attention maps they were made from, and what to try.

    Args:
        scores: "semantic" of `metrics.json`: method -> its scores, those of "cam" at their best threshold.
        refiner: Of the run.
    """
    found = {name: score["miou"] for name, score in scores.items() if score.get("miou") is not None}
    if not {"cam", "labels"} <= found.keys() or found["labels"] >= found["cam"]:
        return ()
    maps, labels = scores["cam"], scores["labels"]
    losses = {
        name: before - after
        for name, before in maps["iou"].items()
        if before is not None and (after := labels["iou"].get(name)) is not None and before - after > LOSS
    }
    worst = sorted(losses, key=lambda name: -losses[name])
    told = (
        f"The labels score lower than the attention maps that they were made from: mIoU {found['labels']:.1%}, the "
        f"maps {found['cam']:.1%} at their best background threshold, {maps['threshold']:g}"
    )
    if worst:
        told += f"; {_listed(worst)} {'loses' if len(worst) == 1 else 'lose'} most"
    tries = []
    if found.get("walk", 0) > found["labels"]:
        tries.append(f"the labels of the walk alone, {found['walk']:.1%} (--pixels.folds 0)")
    if found.get("cam_crf", 1) < found["cam"]:
        tries.append("no dense CRF, which makes the maps worse too (--labels.crf-iterations 0)")
    tries.append("other thresholds (pseudomask tune RUN)")
    if refiner in TRAINED:
        tries.append(f"a longer training of {TRAINED[refiner]} (--{refiner}.steps)")
    return (f"{told}. Try {_listed(tries, 'or')}",)


def _check_classifier(summary: Mapping[str, Any], untagged: int) -> Health:
    tags = summary.get("tags") or {}
    facts = {"classifier": dict(tags)} if tags else {}
    if summary.get("stalled"):
        failure = (
            f"The classifier has learnt nothing: after {summary['restarts']} restarts at lower rates its loss, "
            f"{summary['loss']:.3g}, is still that of a guess. Check that the tags belong to the images (pseudomask "
            f"doctor), {_start_of(summary)}, or train longer (--classifier.steps)"
        )
        return Health(facts, (failure,))
    if not tags or tags["mean_ap"] is None:
        warning = "No class has images enough with and without it to measure the classifier on"
        return Health(facts, (), (warning,) if tags else ())
    where = f"on {tags['images']} {tags['measured_on']}"
    if tags["measured_on"] == "folds":
        where = f"in folds over {tags['images']} images"
    chance, judged = tags["chance"], tags["judged"]
    # A classifier may know its own training images by heart.
    if chance is not None and tags["measured_on"] != "training images":
        share = sum(tags["share"].values()) / len(tags["share"])
        told = (
            f"the classifier tells the tags no better than chance {where}: mean average precision "
            f"{tags['mean_ap']:.0%}, the tags' mean share of the images {share:.0%}, and judged on {judged} images "
            f"{chance:.0%} of random assignments of the tags score as high"
        )
        remedy = (
            f"Check that the tags belong to the images (pseudomask doctor), {_start_of(summary)}, or "
            "bring more images of each tag"
        )
        if chance > (CHANCE if judged >= MANY_IMAGES else CHANCE_OF_FEW):
            meaning = "So its attention maps, and every label made from them, mean nothing"
            return Health(facts, (f"{told[0].upper()}{told[1:]}. {meaning}. {remedy}",))
        if chance > CHANCE:
            return Health(facts, (), (f"Perhaps {told}. {remedy}",))
    if failure := _untold(summary, where):
        return Health(facts, (failure,))
    found = _check_precisions(tags, where, untagged)
    return Health(facts, (), (*found, *_alike(tags)))


def _alike(tags: Mapping[str, Any]) -> list[str]:
    """Warn of images that nearly equal others."""
    share = tags.get("alike", 0.0)
    if share <= FEW_ALIKE:
        return []
    return [
        f"{share:.0%} of the images nearly equal another one: copies, frames of a video, or tiles that overlap. They "
        f"count as one where the classifier is judged, so that is by {tags['judged']} images. Wrong tags of such "
        "images are learnt by heart: look at them, and leave copies out"
    ]


def _check_precisions(tags: Mapping[str, Any], where: str, untagged: int) -> list[str]:
    """Warn where nothing can be said of the classifier, or of the classes that it hardly tells."""
    chance = tags["chance"]
    shares = tags["share"]
    if chance is None and tags["measured_on"] != "training images" and min(shares.values()) > 1 - MOSTLY:
        unjudged = (
            f"Whether the classifier has learnt the tags cannot be told {where}: perfect scores would hardly differ "
            "from chance, since too few images lack the tags. Its labels may hold what is around an object; add images "
            "without it, with empty labels"
        )
        return [unjudged]
    weak = {name: ap for name, ap in tags["ap"].items() if ap - shares[name] < WEAK * (1 - shares[name])}
    if not weak:
        return []
    told = ", ".join(f"{name} {ap:.0%} (chance {shares[name]:.0%})" for name, ap in _few(sorted(weak.items())))
    warning = (
        f"The classifier hardly tells {len(weak)} of {_counted(len(shares), 'class', 'classes')} {where}: average "
        f"precision {told}. Labels of such classes will be poor: look at their tags, and bring more images with and "
        "without them"
    )
    if untagged:
        warning += (
            f". {_counted(untagged, 'image')} without a tag count as images without any class: where they show one, "
            "tag them, or write ? for tags that nobody knows"
        )
    return [warning]


def _start_of(summary: Mapping[str, Any]) -> str:
    """Return the remedy that lies in the first weights, where these were random, and else in the backbone."""
    if summary.get("pretrained"):
        return "take another backbone (--backbone)"
    return "start from ImageNet weights (--weights)"


def _untold(summary: Mapping[str, Any], where: str) -> str | None:
    """Return what is to be said of a classifier that is better than chance, and yet tells hardly anything."""
    tags = summary["tags"]
    shares = tags["share"]
    if tags["chance"] is None or tags["measured_on"] != "held-out images":
        return None
    ways = [(ap - shares[name]) / (1 - shares[name]) for name, ap in tags["ap"].items() if shares[name] < 1]
    if not ways or sum(ways) / len(ways) >= UNTOLD:
        return None
    return (
        f"The classifier hardly tells the tags {where}: mean average precision {tags['mean_ap']:.0%}, the tags' mean "
        f"share of the images {sum(shares.values()) / len(shares):.0%}. So its attention maps, and every label made "
        f"from them, mean little. Train it longer (--classifier.steps), {_start_of(summary)}, or "
        "bring more images of each tag"
    )


def _check_cams(summaries: Sequence[Mapping[str, Any]], classes: ClassTable) -> Health:
    """Judge maps that another method made; of our own the stage says nothing."""
    tags, without, empty = (_sum(summaries, name) for name in ("tags", "without_map", "empty"))
    if not tags:
        return Health()
    remarks: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for summary in summaries:
        remarks.update(summary["remarks"])
        examples = summary["examples"] | examples
    facts = {
        "cams": {
            "tags_without_a_map": {classes.names[c]: count for c, count in sorted(without.items())},
            "empty_maps": {classes.names[c]: count for c, count in sorted(empty.items())},
            "remarks": dict(sorted(remarks.items())),
        }
    }
    if sum(empty.values()) == sum(tags.values()):
        return Health(facts, (ALL_EMPTY,))
    warnings = [
        f"Class attention maps held scores that are {remark} in {_counted(count, 'file')}, for one {examples[remark]}: "
        f"{REMARKS[remark]}"
        for remark, count in sorted(remarks.items())
        if remark in REMARKS
    ]
    if mostly := [classes.names[c] for c, count in sorted(empty.items()) if count > MOSTLY * tags[c]]:
        warnings.append(f"Most maps of {_listed(mostly)} are empty, so such tags get no pixel: look at the files")
    return Health(facts, (), tuple(warnings))


def _check_relations(
    summaries: Sequence[Mapping[str, Any]], classes: ClassTable, external: bool, config: Config | None
) -> Health:
    tags, found = (_sum(summaries, name) for name in ("tags", "tags_found"))
    if not tags:
        return Health()
    shares = {classes.names[c]: round(found[c] / count, 4) for c, count in sorted(tags.items())}
    area = _sum(summaries, "tags_area")
    areas = {classes.names[c]: round(area[c] / count, 4) for c, count in sorted(tags.items())}
    facts = {"relations": {"images_with_confident_pixels": shares, "confident_area": areas}}
    network, remedy = "IRNet", "lower --relations.foreground-threshold"
    if config is not None and "foreground_power" in type(config).model_fields:
        network, remedy = "AffinityNet", "raise --affinity-relations.foreground-power"
    if not any(found.values()):
        better = "train the classifier longer (--classifier.steps), start it from ImageNet weights (--weights)"
        better = "name their form (--cam-family)" if external else better
        failure = (
            f"No image has a pixel that is surely foreground ({_counted(sum(tags.values()), 'tag')}), so {network} has "
            f"nothing to learn from. The attention maps are empty or spread over the whole image: {better}, or {remedy}"
        )
        return Health(facts, (failure,))
    none = [name for name, share in shares.items() if share == 0]
    warnings = ()
    if none:
        warnings = (
            f"No image has a pixel that is surely {_listed(none, 'or')}, so {network} learns no border "
            "of it: bring more images with such tags",
        )
    return Health(facts, (), warnings)


def _check_walk(summaries: Sequence[Mapping[str, Any]], classes: ClassTable) -> Health:
    tags, salient, hidden = (_sum(summaries, name) for name in ("tags", "salient", "hidden"))
    shares = {c: round(salient[c] / count, 4) for c, count in sorted(tags.items())}
    if not shares:
        return Health()
    facts = {"saliency": {"salient_share": {classes.names[c]: share for c, share in shares.items()}}}
    warnings = (
        f"Saliency hides most of what the classifier finds of {classes.names[c]} in {hidden[c]} of "
        f"{_counted(tags[c], 'image')}: name it in --saliency.non-salient"
        for c, share in shares.items()
        if share < LEAST_SALIENT
    )
    return Health(facts, (), tuple(warnings))


def _check_labels(
    summaries: Sequence[Mapping[str, Any]],
    samples: Iterable[Sample],
    classes: ClassTable,
    trained: bool,
    external: bool,
    by_pixels: bool,
) -> Health:
    labels_of = {sample.id: sample.labels for sample in samples if sample.labels}
    if not labels_of:
        return Health()
    tags, unsure, small = (_sum(summaries, name) for name in ("tags", "unsure", "shrunk"))
    without = {id: tuple(missing) for summary in summaries for id, missing in summary.get("empty", {}).items()}
    lost = Counter(c for missing in without.values() for c in missing)
    empty = sorted(id for id, missing in without.items() if len(missing) == len(labels_of[id]))
    facts = {
        "labels": {
            "tagged_images": len(labels_of),
            "images_without_a_pixel": len(empty),
            "tags": sum(tags.values()),
            "tags_without_a_pixel": {classes.names[c]: count for c, count in sorted(lost.items())},
            "tags_without_a_sure_pixel": {classes.names[c]: count for c, count in sorted(unsure.items())},
            "tags_shrunk_by_the_second_round": {classes.names[c]: count for c, count in sorted(small.items())},
            "empty": empty,
        }
    }
    told = f"{len(empty)} of {_counted(len(labels_of), 'tagged image')} without a labelled pixel"
    remedy = "Look at the attention maps in the report, or lower --labels.background-threshold"
    if by_pixels:
        remedy = f"{remedy.replace(', or', ',')}, or leave out the second round (--pixels.folds 0)"
    if not external:
        remedy = f"{remedy.replace(', or', ',')}, or train the classifier longer"
    if len(empty) == len(labels_of) and (trained or len(labels_of) >= FEW_IMAGES):
        return Health(facts, (f"{told}: the labels are empty. {remedy}",))
    warnings = []
    if len(empty) > EMPTY * len(labels_of):
        warnings.append(f"{told}: {_listed(empty)}. {remedy}")
    if mostly := [classes.names[c] for c, count in sorted(lost.items()) if count > MOSTLY * tags[c]]:
        warnings.append(f"Most images with the tag have no labelled pixel of {_listed(mostly, 'or')}. {remedy}")
    warnings += _shrunk(small, tags, classes)
    return Health(facts, (), tuple(warnings))


def _shrunk(small: Mapping[int, int], tags: Mapping[int, int], classes: ClassTable) -> list[str]:
    """Name classes that lose most of their area in the second round, in a warning.

    Args:
        small: Class number -> images in which it does.
        tags: Class number -> images with the tag.
        classes: Of the run.
    """
    found = [
        f"{classes.names[c]} in {count} of {_counted(tags[c], 'image')}"
        for c, count in sorted(small.items())
        if count >= max(FEWEST_SHRUNK, SHRUNK * tags[c])
    ]
    if not found:
        return []
    return [
        f"The second round keeps less than a tenth of what the walk gives {_listed(found)}. That is right where the "
        "objects are small; where they fill the image, it takes them for background. Look at such images in the "
        "report, or leave out the second round (--pixels.folds 0)"
    ]


def _with_regions(found: Health, summaries: Sequence[Mapping[str, Any]]) -> Health:
    """Add what regions did to the labels, in a run that has any."""
    told = [summary for summary in summaries if "regions" in summary]
    count, taken = (sum(summary[name] for summary in told) for name in ("regions", "taken"))
    if not told:
        return found
    facts = found.facts | {"regions": {"found": count, "took_a_class": taken}}
    if taken:
        return Health(facts, found.failures, found.warnings)
    warning = (
        f"None of {_counted(count, 'region')} took a class, so the labels are as without them: look at whether the "
        "regions are those of these images, or lower --regions.least-cover-held"
    )
    return Health(facts, found.failures, (*found.warnings, warning))


def _check_quality(summaries: Sequence[Mapping[str, Any]], classes: ClassTable) -> Health:
    """Compare how far the labels agree with the tags to how far the attention maps do, which show all of `tags`."""
    tags, lost = (_sum(summaries, name) for name in ("tags", "lost"))
    if sum(lost.values()) <= LOST * sum(tags.values()):
        return Health()
    names = [classes.names[c] for c, count in lost.most_common() if count]
    told = (
        f"The labels agree less with the tags than the attention maps do: {sum(lost.values())} of "
        f"{_counted(sum(tags.values()), 'tag')} that the maps show have no labelled pixel, most of {_listed(names)}"
    )
    remedy = (
        "Try a lower --labels.background-threshold (or --labels.pixel-threshold), fewer --labels.crf-iterations, or "
        "pseudomask tune RUN, which compares many"
    )
    return Health({}, (), (f"{told}. {remedy}",))


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


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
