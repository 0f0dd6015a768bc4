"""A run says what its stages have not found, and ends where that makes the rest meaningless."""

from pathlib import Path

import pytest

from data.dataset import ClassTable, Sample
from flows.labels.presets import quick
from tasks.evaluation.health import check_stage, warn_of_refinement
from tasks.pipeline.settings import IRNetConfig

CLASSES = ClassTable(("cat", "dog"))
SAMPLES = tuple(Sample(f"{n:02d}", Path("a.jpg"), (n % 2,)) for n in range(20))


def tags(cat: float, dog: float, chance: float | None, measured_on: str = "held-out images", judged: int = 120) -> dict:
    mean = (cat + dog) / 2
    shares = {"cat": 0.5, "dog": 0.5}
    found = {"ap": {"cat": cat, "dog": dog}, "share": shares, "mean_ap": mean, "chance": chance, "images": 20}
    return {"tags": {"measured_on": measured_on, "judged": judged, **found}}


def test_a_classifier_at_chance_ends_the_run_with_cause_and_remedy() -> None:
    health = check_stage("classifier", [tags(0.5, 0.55, 0.4)], SAMPLES, CLASSES)
    (failure,) = health.failures
    assert "The classifier tells the tags no better than chance on 20 held-out images" in failure
    assert "Check that the tags belong to the images" in failure
    assert health.facts["classifier"]["ap"] == {"cat": 0.5, "dog": 0.55}


@pytest.mark.parametrize(
    "found", [tags(0.9, 0.95, 0.002), tags(0.5, 0.5, None), tags(0.5, 0.5, 0.9, "training images")]
)
def test_a_classifier_that_is_better_or_cannot_be_judged_goes_on(found: dict) -> None:
    assert not check_stage("classifier", [found], SAMPLES, CLASSES).failures
    assert not check_stage("classifier", [{}], SAMPLES, CLASSES).failures


def test_of_few_images_only_what_looks_like_chance_ends_the_run() -> None:
    assert check_stage("classifier", [tags(0.5, 0.5, 0.3, judged=20)], SAMPLES, CLASSES).failures
    doubtful = check_stage("classifier", [tags(0.7, 0.7, 0.1, judged=20)], SAMPLES, CLASSES)
    assert not doubtful.failures
    assert "Perhaps the classifier tells the tags no better than chance" in doubtful.warnings[0]
    assert check_stage("classifier", [tags(0.7, 0.7, 0.1, judged=120)], SAMPLES, CLASSES).failures


def test_a_classifier_that_never_learnt_ends_the_run() -> None:
    summary = {**tags(0.9, 0.9, 0.002), "stalled": True, "restarts": 2, "loss": 1.386}
    assert "has learnt nothing: after 2 restarts" in check_stage("classifier", [summary], SAMPLES, CLASSES).failures[0]


def test_a_class_that_most_of_its_images_have_lost_is_named_whatever_else_is_said() -> None:
    summary = {"tags": {"0": 10, "1": 10}, "empty": {s.id: [1] for s in SAMPLES if s.labels == (1,)}}
    empty, lost = check_stage("labels", [summary], SAMPLES, CLASSES).warnings
    assert "10 of 20 tagged images without a labelled pixel" in empty
    assert "no labelled pixel of dog" in lost


def test_a_weak_class_is_named() -> None:
    (warning,) = check_stage("classifier", [tags(0.97, 0.55, 0.002)], SAMPLES, CLASSES).warnings
    assert "hardly tells 1 of 2 classes on 20 held-out images" in warning
    assert "dog 55% (chance 50%)" in warning
    assert "cat" not in warning


def test_images_without_a_tag_are_named_beside_a_weak_class() -> None:
    bare = (*SAMPLES, Sample("bare", Path("bare"), ()), Sample("other", Path("other"), ()))
    count = sum(not sample.labels for sample in bare)
    (warning,) = check_stage("classifier", [tags(0.97, 0.55, 0.002)], bare, CLASSES).warnings
    assert f". {count} images without a tag count as images without any class: where they show one, tag" in warning
    tagged = [sample for sample in bare if sample.labels]
    assert "without a tag" not in check_stage("classifier", [tags(0.97, 0.55, 0.002)], tagged, CLASSES).warnings[0]


def test_images_that_are_alike_are_told() -> None:
    found = tags(0.97, 0.95, 0.002, "folds", judged=18)
    found["tags"]["alike"] = 0.9
    (warning,) = check_stage("classifier", [found], SAMPLES, CLASSES).warnings
    assert warning.startswith("90% of the images nearly equal another one: copies, frames of a video")
    assert "so that is by 18 images" in warning
    found["tags"]["alike"] = 0.2
    assert not check_stage("classifier", [found], SAMPLES, CLASSES).warnings


def test_a_classifier_that_hardly_tells_any_class_ends_the_run() -> None:
    # Better than chance beyond doubt, and no use.
    (failure,) = check_stage("classifier", [tags(0.52, 0.56, 0.002)], SAMPLES, CLASSES).failures
    assert "hardly tells the tags on 20 held-out images: mean average precision 54%" in failure
    assert "--classifier.steps" in failure
    one = check_stage("classifier", [tags(0.52, 0.7, 0.002)], SAMPLES, CLASSES)
    assert not one.failures
    assert one.warnings
    # In folds over few images another classifier was asked.
    assert not check_stage("classifier", [tags(0.52, 0.56, 0.002, "folds")], SAMPLES, CLASSES).failures


def test_a_tag_that_nearly_all_images_have_cannot_be_judged_and_it_is_said() -> None:
    found = {"ap": {"cat": 0.99}, "share": {"cat": 0.97}, "mean_ap": 0.99, "chance": None, "images": 40, "judged": 40}
    (warning,) = check_stage("classifier", [{"tags": {"measured_on": "folds", **found}}], SAMPLES, CLASSES).warnings
    assert "cannot be told in folds over 40 images" in warning
    rare = found | {"ap": {"cat": 0.9}, "share": {"cat": 0.03}}
    assert not check_stage("classifier", [{"tags": {"measured_on": "folds", **rare}}], SAMPLES, CLASSES).warnings


def test_remedies_are_those_that_are_left() -> None:
    found = tags(0.5, 0.5, 0.9)
    assert "--weights" in check_stage("classifier", [found], SAMPLES, CLASSES).failures[0]
    (failure,) = check_stage("classifier", [{**found, "pretrained": True}], SAMPLES, CLASSES).failures
    assert "--weights" not in failure
    assert "--backbone" in failure
    (plain,), (second,) = (
        check_stage("labels", labels("00", "01"), SAMPLES, CLASSES, by_pixels=by_pixels).warnings
        for by_pixels in (False, True)
    )
    assert "--pixels.folds" not in plain
    assert "--pixels.folds 0" in second


def test_no_confident_pixel_ends_the_run_and_a_class_without_any_is_named() -> None:
    none = [{"tags": {0: 4, 1: 2}, "tags_found": {}}, {"tags": {"1": 4}, "tags_found": {}}]
    assert "nothing to learn" in check_stage("relations", none, SAMPLES, CLASSES).failures[0]
    some = [{"tags": {"0": 4, "1": 2}, "tags_found": {"0": 3}}]
    health = check_stage("relations", some, SAMPLES, CLASSES)
    assert not health.failures
    assert "surely dog" in health.warnings[0]
    assert health.facts["relations"]["images_with_confident_pixels"] == {"cat": 0.75, "dog": 0.0}
    assert not check_stage("relations", [{"tags": {}, "tags_found": {}}], SAMPLES, CLASSES).failures


def labels(*empty: str) -> list[dict]:
    return [{"tags": {"0": 10, "1": 10}, "empty": {id: [int(id) % 2] for id in empty}}]


def test_labels_that_are_all_empty_end_the_run() -> None:
    health = check_stage("labels", labels(*(s.id for s in SAMPLES)), SAMPLES, CLASSES)
    assert "20 of 20 tagged images without a labelled pixel" in health.failures[0]


def test_empty_images_are_counted_and_listed() -> None:
    health = check_stage("labels", labels("03", "05"), SAMPLES, CLASSES)
    assert not health.failures
    assert "2 of 20 tagged images without a labelled pixel: 03 and 05" in health.warnings[0]
    found = health.facts["labels"]
    assert found["empty"] == ["03", "05"]
    assert (found["tagged_images"], found["images_without_a_pixel"]) == (20, 2)
    assert found["tags_without_a_pixel"] == {"dog": 2}


def test_a_tag_that_is_lost_beside_another_is_counted_but_its_image_is_not_empty() -> None:
    samples = (Sample("00", Path("a.jpg"), (0, 1)),)
    found = check_stage("labels", [{"tags": {"0": 1, "1": 1}, "empty": {"00": [1]}}], samples, CLASSES)
    assert found.facts["labels"]["images_without_a_pixel"] == 0
    assert "no labelled pixel of dog" in found.warnings[0]


def test_one_empty_image_proves_nothing_against_networks_of_another_run() -> None:
    one = SAMPLES[:1]
    summaries = [{"tags": {"0": 1}, "empty": {"00": [0]}}]
    assert check_stage("labels", summaries, one, CLASSES).failures
    again = check_stage("labels", summaries, one, CLASSES, trained=False)
    assert not again.failures
    assert again.warnings


FLAT = {"displacement_spread_px": 0.2, "fg_displacement": 4.1, "displacement_plateau": 4.2, "bg_displacement": 0.01}


def test_a_collapsed_field_is_warned_of_with_a_remedy_that_is_not_set_yet():
    counted = FLAT | {"instances": 3, "components": 3}
    (warning,) = check_stage("irnet", [counted], SAMPLES, CLASSES, config=IRNetConfig()).warnings
    assert "varies by 0.20 feature pixels, and finds 3 instances in 3 connected areas" in warning
    assert warning.endswith(
        "train IRNet longer (--irnet.steps, --irnet.epochs), by AdamW (--irnet.optimizer adamw), "
        "with a share of --irnet.rest-warmup."
    )
    (warning,) = check_stage("irnet", [counted], SAMPLES, CLASSES, config=quick().irnet).warnings
    assert warning.endswith("train IRNet longer (--irnet.steps, --irnet.epochs).")
    (warning,) = check_stage("irnet", [FLAT | {"displacement_spread_px": None}], SAMPLES, CLASSES).warnings
    assert "no image has confident foreground" in warning
    assert not check_stage("irnet", [FLAT | {"displacement_spread_px": 1.5}], SAMPLES, CLASSES).warnings


def test_a_class_whose_maps_lie_outside_saliency_is_named_with_its_images() -> None:
    shards = [
        {"tags": {"0": 4, "1": 4}, "salient": {"0": 0.2, "1": 3.0}, "hidden": {"0": 4, "1": 1}},
        {"tags": {"0": 2, "1": 2}, "salient": {"0": 0.8, "1": 1.0}, "hidden": {"0": 1, "1": 0}},
    ]
    health = check_stage("walk", shards, SAMPLES, CLASSES)
    assert health.facts == {"saliency": {"salient_share": {"cat": 0.1667, "dog": 0.6667}}}
    (warning,) = health.warnings
    assert warning == (
        "Saliency hides most of what the classifier finds of cat in 5 of 6 images: name it in --saliency.non-salient"
    )
    assert not health.failures
    assert check_stage("walk", [{"instances": 3}], SAMPLES, CLASSES).facts == {}


def test_labels_under_their_attention_maps_are_told_with_what_to_try() -> None:
    def score(miou: float, **iou: float | None) -> dict:
        return {"miou": miou, "iou": iou, "threshold": 0.3}

    maps, labels = score(0.5, cat=0.6, dog=0.4, cow=None), score(0.45, cat=0.45, dog=0.45, cow=0.1)
    (told,) = warn_of_refinement({"cam": maps, "labels": labels, "walk": score(0.55), "cam_crf": score(0.4)})
    assert "mIoU 45.0%, the maps 50.0% at their best background threshold, 0.3; cat loses most" in told
    for remedy in ("walk alone, 55.0% (--pixels.folds 0)", "--labels.crf-iterations 0", "pseudomask tune RUN"):
        assert remedy in told
    (told,) = warn_of_refinement({"cam": maps, "labels": labels, "walk": score(0.3), "cam_crf": score(0.6)})
    assert "--pixels.folds" not in told
    assert "--labels.crf-iterations" not in told
    assert warn_of_refinement({"cam": maps, "labels": score(0.5, cat=0.5)}) == ()
    assert warn_of_refinement({}) == ()


def test_classes_that_the_second_round_shrinks_are_named() -> None:
    samples = tuple(Sample(str(number), Path("a"), (0, 1)) for number in range(12))
    summary = {"tags": {"0": 6, "1": 6}, "unsure": {}, "empty": {}, "shrunk": {"0": 4, "1": 1}}
    found = check_stage("labels", [summary, summary], samples, CLASSES, by_pixels=True)
    assert found.facts["labels"]["tags_shrunk_by_the_second_round"] == {"cat": 8, "dog": 2}
    (told,) = found.warnings
    assert told.startswith("The second round keeps less than a tenth of what the walk gives cat in 8 of 12 images. ")
    assert told.endswith("(--pixels.folds 0)")
    # Of few images a share says little.
    few = {"tags": {"0": 2}, "unsure": {}, "empty": {}, "shrunk": {"0": 2}}
    assert not check_stage("labels", [few], samples[:2], CLASSES, by_pixels=True).warnings


def test_regions_are_counted_and_it_is_told_where_none_takes_a_class() -> None:
    summary = {"tags": {0: 1}, "unsure": {}, "empty": {}, "regions": 5, "taken": 2}
    samples = (Sample("a", Path("a"), (0,)),)
    found = check_stage("labels", [summary, summary], samples, ClassTable(("cat",)))
    assert found.facts["regions"] == {"found": 10, "took_a_class": 4}
    assert not found.warnings
    found = check_stage("labels", [summary | {"taken": 0}], samples, ClassTable(("cat",)))
    assert [warning.partition(",")[0] for warning in found.warnings] == ["None of 5 regions took a class"]
    assert "regions" not in check_stage("labels", [{"tags": {0: 1}}], samples, ClassTable(("cat",))).facts
