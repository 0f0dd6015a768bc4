"""What a regeneration has to do, and what the gate lets through."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.dataset import ClassTable, Dataset, Sample
from data.store.publication import Entry
from tasks.engine.artifact import SampleDigest
from tasks.pipeline.settings import PipelineConfig, RegionsConfig
from tasks.publishing.decide import (
    Changes,
    Gate,
    compare,
    decide,
    doubtful_classes,
    means,
    objections,
    statistics,
    unchanged,
)

SETTINGS = PipelineConfig()
BEFORE = SETTINGS.model_dump(mode="json")


def dataset(**labels: str) -> Dataset:
    """Return a set of images, each with labels such as "cat;dog"."""
    names = sorted({name for text in labels.values() for name in text.split(";") if name})
    samples = tuple(
        Sample(id, Path(id), tuple(sorted(names.index(name) for name in text.split(";") if name)))
        for id, text in sorted(labels.items())
    )
    return Dataset(Path(), ClassTable(tuple(names)), samples)


def digests(data: Dataset, **others: str) -> dict[str, SampleDigest]:
    return {sample.id: SampleDigest(others.get(sample.id, f"sha-{sample.id}")) for sample in data.samples}


def entry(id: str, *labels: str, background: float = 0.5, classes: int = 1, instances: int = 2) -> Entry:
    return Entry(id, f"sha-{id}", labels, "key", background, classes, instances)


ENTRIES = [entry("a", "cat"), entry("b", "dog"), entry("c", "cat", "dog"), entry("d", "cat")]


def test_images_are_compared_by_their_bytes_and_the_names_of_their_labels() -> None:
    now = dataset(a="cat", b="dog;bird", c="dog;cat", e="cat")
    found = compare(now, digests(now, c="other"), ENTRIES)
    assert found == Changes(added=("e",), changed=("c",), relabelled=("b",), removed=("d",))
    assert found.to_infer == ("b", "c", "e")
    assert found.counts() == {"added": 1, "changed": 1, "relabelled": 1, "removed": 1}
    # A new class moves the numbers of the others, and changes nothing.
    same = dataset(a="cat", b="dog", c="cat;dog", d="cat")
    assert not compare(same, digests(same), ENTRIES)


def decision(now: Dataset, trained: Dataset, retrain: str = "auto", settings: PipelineConfig = SETTINGS):
    changes = compare(now, digests(now), ENTRIES)
    return decide(now, changes, settings, BEFORE, trained, retrain, 0.3)  # pyright: ignore[reportArgumentType]


def test_other_saliency_of_an_image_gives_it_new_labels() -> None:
    now, before = dataset(a="cat", b="dog;cat"), [replace(entry("a", "cat"), saliency="map"), entry("b", "cat", "dog")]
    found = compare(now, {"a": SampleDigest("sha-a", saliency="other"), "b": SampleDigest("sha-b")}, before)
    assert found == Changes(with_other_saliency=("a",))
    assert decide(now, found, SETTINGS, BEFORE, now, "auto", 0.3).images == ("a",)
    assert found.counts()["with_other_saliency"] == 1
    assert compare(now, digests(now), before).to_infer == ("a",)
    assert not compare(now, {**digests(now), "a": SampleDigest("sha-a", saliency="map")}, before)


def test_other_regions_of_an_image_give_it_new_labels_and_other_settings_of_them_all_images() -> None:
    now, before = dataset(a="cat", b="dog"), [replace(entry("a", "cat"), regions="r"), entry("b", "dog")]
    found = compare(now, {"a": SampleDigest("sha-a", regions="other"), "b": SampleDigest("sha-b")}, before)
    assert found == Changes(with_other_regions=("a",))
    assert found
    assert decide(now, found, SETTINGS, BEFORE, now, "auto", 0.3).images == ("a",)
    other = SETTINGS.model_copy(update={"regions": RegionsConfig(least_cover=0.8)})
    decided = decide(now, Changes(), other, BEFORE, now, "auto", 0.3)
    assert (decided.train, decided.images) == (False, ("a", "b"))


def test_the_first_version_trains_on_everything() -> None:
    now = dataset(a="cat", b="dog")
    found = decide(now, compare(now, digests(now), ()), SETTINGS, None, None, "never", 0.3)
    assert (found.train, found.images) == (True, ("a", "b"))


def test_a_few_new_images_are_labelled_by_the_networks_there_are() -> None:
    trained = dataset(a="cat", b="dog", c="cat;dog", d="cat")
    found = decision(dataset(a="cat", b="dog", c="cat;dog", d="cat", e="dog"), trained)
    assert (found.train, found.images) == (False, ("e",))
    assert found.reasons == ("1 images added",)
    gone = decision(dataset(a="cat", b="dog", c="cat;dog"), trained)
    assert (gone.train, gone.images, gone.reasons) == (False, (), ("1 images removed",))


@pytest.mark.parametrize(
    ("now", "settings", "reason"),
    [
        (dataset(a="cat", b="bird", c="cat;dog", d="cat"), SETTINGS, "do not know the classes bird"),
        (dataset(a="cat", b="dog", c="cat", d="cat", e="cat", f="cat"), SETTINGS, "have not seen 2 of 6 images"),
        (dataset(a="cat", b="dog", c="cat;dog", d="cat"), PipelineConfig(seed=1), "the settings of seed are others"),
        (
            dataset(a="cat", b="dog", c="cat;dog", d="cat"),
            PipelineConfig.model_validate({"irnet": {"epochs": 9}}),
            "the settings of irnet are others",
        ),
    ],
)
def test_networks_are_trained_again_when_they_must_or_never(
    now: Dataset, settings: PipelineConfig, reason: str
) -> None:
    trained = dataset(a="cat", b="dog", c="cat;dog", d="cat")
    found = decision(now, trained, settings=settings)
    assert found.train
    assert reason in found.reasons[0]
    assert found.images == tuple(sample.id for sample in now.samples)
    assert not decision(now, trained, "never", settings).train
    assert decision(trained, trained, "always").train


def test_other_settings_of_inference_give_all_images_new_labels() -> None:
    now = dataset(a="cat", b="dog", c="cat;dog", d="cat")
    found = decision(now, now, settings=PipelineConfig.model_validate({"walk": {"beta": 3}}))
    assert (found.train, found.images) == (False, ("a", "b", "c", "d"))
    assert found.reasons == ("the settings of walk are others",)


def test_settings_count_as_far_as_the_networks_may_change() -> None:
    assert unchanged(BEFORE, SETTINGS, "auto")
    assert not unchanged(BEFORE, PipelineConfig(seed=1), "auto")
    assert unchanged(BEFORE, PipelineConfig(seed=1), "never")
    assert not unchanged(BEFORE, PipelineConfig.model_validate({"walk": {"beta": 3}}), "never")
    # How the work is dealt out, and what is scored, changes no label.
    assert unchanged(BEFORE, PipelineConfig.model_validate({"shard_size": 7}), "auto")


def test_an_images_statistics_do_not_count_void() -> None:
    labels = np.array([[0, 0, 3, 255], [0, 2, 2, 3]], np.uint8)
    instances = np.array([[0, 0, 1, 255], [0, 2, 2, 3]], np.uint8)
    assert statistics(labels, instances) == {"background": 0.375, "classes": 2, "instances": 3}
    assert means([]) is None
    assert means([entry("a", background=0.2), entry("b", background=0.6, instances=4)]) == {
        "background": 0.4,
        "classes": 1,
        "instances": 3,
    }


def test_the_gate_names_what_leaves_its_bounds() -> None:
    good = {"background": 0.5, "classes": 1.0, "instances": 2.0}
    assert objections(Gate(), good, good, 0.9) == []
    assert objections(Gate(), good, None, None) == []
    found = objections(Gate(), good | {"background": 0.99}, good | {"instances": 0.1}, 0.5)
    assert len(found) == 3
    assert found[0] == "the mean of background of the version is 0.99, the bounds are 0.05 to 0.98"
    assert "instances of the new labels is 0.1" in found[1]
    assert "agree with the version before in 50.0% of the pixels" in found[2]


def test_another_working_size_is_another_version_and_what_an_old_record_lacks_is_its_default() -> None:
    settings = PipelineConfig()
    before = settings.model_dump(mode="json")
    assert unchanged(before, settings, "auto")
    assert not unchanged(before, settings.model_copy(update={"long_side": (320, 640)}), "never")
    del before["long_side"], before["classifier"]["loss"]
    assert unchanged(before, settings, "auto")


def test_few_images_of_a_new_class_are_doubted_and_its_likely_name_told() -> None:
    trained_on = dataset(a="cat", b="Dog")
    now = dataset(a="cat", b="Dog", c="dgo", d="zebra", e="zebra;cat", f="kite", g="kite", h="kite")
    assert doubtful_classes(now, trained_on, 3) == (
        "the new class 'dgo' has 1 image, fewer than 3, and is near 'Dog'",
        "the new class 'zebra' has 2 images, fewer than 3",
    )
    assert doubtful_classes(now, trained_on, 1) == ()
    found = decide(now, compare(now, digests(now), ENTRIES), SETTINGS, BEFORE, trained_on, "auto", 1.0)
    assert found.reasons == ("the networks do not know the classes dgo, and is near 'Dog'; kite; zebra",)
