"""Images whose correction is worth most: unsure, typical, unlike each other, and never what a person has looked at."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.published_labels import add_network, make_publication

from data.dataset import DatasetError
from data.formats.quality import QUALITY
from data.store import ArtifactError
from flows.cli import main
from tasks.review.features import image_features
from tasks.review.proposal import MOST_COMPARED, NEAR, choose, propose, similarities
from tasks.review.session import Session
from tasks.review.subject import Subject, open_subject


def points(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


CLUSTER_AND_ONE = points(0.0, 0.5, 1.0, 1.5, 2.0, 40.0)


def test_a_typical_unsure_image_comes_before_an_odd_one_that_is_as_unsure() -> None:
    unsure = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    assert choose(unsure, CLUSTER_AND_ONE, 1) == [2]


def test_an_unsure_image_comes_before_a_typical_one_that_is_sure() -> None:
    assert choose(np.array([0.05, 0.05, 0.05, 0.05, 0.05, 0.9]), CLUSTER_AND_ONE, 1) == [5]
    # What is like it counts by how unsure that is itself.
    two_groups = points(0.0, 0.5, 1.0, 40.0, 40.5, 41.0)
    assert choose(np.array([0.5, 0.5, 0.5, 0.1, 0.6, 0.1]), two_groups, 1)[0] < 3


def test_the_second_is_of_what_the_first_does_not_cover() -> None:
    two_groups = points(0.0, 0.2, 0.4, 10.0, 10.2, 10.4)
    first, second = choose(np.full(6, 0.5), two_groups, 2)
    assert (first < 3) != (second < 3)


def test_a_second_photograph_of_the_same_comes_after_all_others() -> None:
    unsure = np.array([0.9, 0.9, 0.9, 0.01, 0.01])
    features = np.array([[0.0, 0.0], [0.001, 0.0], [0.0, 0.001], [5.0, 0.0], [0.0, 5.0]])
    order = choose(unsure, features, 5)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order[0] <= 2
    assert sorted(order[1:3]) == [3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_wait_however_unsure_they_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = np.concatenate([rng.random((25, 1)), points(3.0, 6.0, 9.0)])
    unsure = np.concatenate([np.full(25, 0.9), np.full(3, 0.001)])
    order = choose(unsure, features, 28)
    similar = similarities(features)[np.ix_(order, order)]
    nearest = [similar[place, :place].max(initial=0) for place in range(28)]
    first = next(place for place, each in enumerate(nearest) if each >= NEAR)
    assert 3 < first < 28
    # What is left then is like something that came before.
    assert (similar[first:, :first].max(axis=1) >= NEAR).all()


def test_equals_come_in_their_order() -> None:
    assert choose(np.full(4, 0.5), np.zeros((4, 3)), 4) == [0, 1, 2, 3]
    assert choose(np.zeros(3), points(0.0, 1.0, 2.0), 3) == [0, 1, 2]


def test_a_budget_beyond_the_set_is_the_set() -> None:
    unsure = np.random.default_rng(0).random(20)
    features = np.random.default_rng(1).normal(size=(20, 5))
    assert sorted(choose(unsure, features, 1000)) == list(range(20))
    assert choose(np.zeros(0), np.zeros((0, 4)), 3) == []
    assert choose(np.array([0.3]), np.ones((1, 4)), 3) == [0]


def test_who_corrects_some_and_asks_again_gets_the_rest() -> None:
    unsure = np.random.default_rng(2).random(30)
    features = np.random.default_rng(3).normal(size=(30, 6))
    whole = choose(unsure, features, 12)
    assert choose(unsure, features, 7, taken=whole[:5]) == whole[5:]


def test_scales_and_offsets_of_features_do_not_count() -> None:
    unsure = np.random.default_rng(4).random(15)
    features = np.random.default_rng(5).normal(size=(15, 3))
    assert choose(unsure, features * [1, 1000, 0.001] + 7, 9) == choose(unsure, features, 9)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    labels = make_publication(folder, num_images=6)
    add_network(folder)
    return labels


@pytest.fixture
def subject(published: Path, tmp_path: Path) -> Subject:
    copy = tmp_path / "labels"
    shutil.copytree(published, copy, symlinks=True)
    return open_subject(copy)


def test_what_people_looked_at_is_not_proposed_again(subject: Subject) -> None:
    whole = propose(subject, 100)
    assert {*whole.images} == {*subject.images}
    assert whole.proposed
    first, second, *rest = whole.images
    given = subject.corrections
    given.add(first, subject.images[first].digest, author="Ada", verdict="accepted")
    given.add(second, "0" * 64, author="Ada", verdict="accepted")
    assert [*propose(subject, 100).images] == [second, *rest]
    given.add(rest[0], subject.images[rest[0]].digest, author="Ada", verdict="rejected")
    assert {*propose(subject, 100).images} == {second, *rest[1:]}
    assert len(propose(subject, 2).images) == 2


def test_images_of_unknown_quality_come_last_and_labels_without_any_are_refused(subject: Subject) -> None:
    unknown = next(iter(subject.images))
    images = {id: replace(image, unsure=None) if id == unknown else image for id, image in subject.images.items()}
    assert [*propose(replace(subject, images=images), 100).images][-1] == unknown
    images = {id: replace(image, unsure=None) for id, image in images.items()}
    with pytest.raises(ArtifactError, match=r"quality is known.*without --budget"):
        propose(replace(subject, images=images), 100)


def test_beyond_the_images_that_are_compared_the_least_sure_come_first(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_COMPARED > 6
    monkeypatch.setattr("tasks.review.proposal.MOST_COMPARED", 2)
    found = [image.unsure or 0.0 for image in propose(subject, 100).images.values()]
    assert sorted(found[:2]) == pytest.approx([0.4, 0.5])
    assert found[2:] == pytest.approx([0.3, 0.2, 0.1, 0.0])


def test_photographs_are_seen_by_the_networks_of_the_run(subject: Subject) -> None:
    images = [*subject.images.values()]
    features = image_features(subject, images)
    assert features.shape == (6, 128 + 256 + 512)
    np.testing.assert_array_equal(image_features(subject, images[::-1]), features[::-1])
    assert len(np.unique(features, axis=0)) == 6
    images[0] = replace(images[0], file=images[1].file)
    with pytest.raises(DatasetError, match="has changed since its labels were made"):
        image_features(subject, images)


def test_networks_that_are_gone_are_named(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published.parent, tmp_path / "all", symlinks=True)
    labels = tmp_path / "all/labels"
    record = json.loads((labels / "runs/v00001/run.json").read_text())
    record["store"] = str(tmp_path / "elsewhere")
    (labels / "runs/v00001/run.json").write_text(json.dumps(record))
    images = {id: replace(image, unsure=0.5) for id, image in open_subject(labels).images.items()}
    with pytest.raises(ArtifactError, match="irnet"):
        propose(replace(open_subject(labels), images=images), 3)


def test_the_session_counts_the_proposed_images_alone(subject: Subject) -> None:
    given = propose(subject, 3)
    outside = next(id for id in subject.images if id not in given.images)
    session = Session(given, "Ada")
    found = session.queue(0, 10)
    assert [each["image"] for each in found["images"]] == [*given.images]
    assert (found["count"], found["done"], found["proposed"]) == (3, 0, True)
    subject.corrections.add(outside, subject.images[outside].digest, author="Ada", verdict="accepted")
    first = next(iter(given.images))
    subject.corrections.add(first, given.images[first].digest, author="Ada", verdict="accepted")
    assert session.queue(0, 0)["done"] == 1
    assert Session(subject, "Ada").queue(0, 0)["proposed"] is False


def test_the_list_is_printed_and_nothing_is_served(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flows.review.server.ReviewServer.__init__", lambda *_: pytest.fail("a server"))
    folder, expected = str(subject.folder), [*propose(subject, 3).images]
    assert main(["review", folder, "--budget", "3", "--list"]) == 0
    assert capsys.readouterr().out.split() == expected
    assert main(["review", folder, "--budget", "3", "--list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["image"] for each in found["images"]] == expected
    assert found["images"][0].keys() == {"image", "quality", "why"}
    assert main(["review", folder, "--list"]) == 0
    assert capsys.readouterr().out.split() == [*subject.images]
    assert main(["review", folder, "--budget", "0", "--list"]) != 0
    assert QUALITY not in capsys.readouterr().out
