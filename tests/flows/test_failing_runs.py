"""A run that has learnt nothing ends with exit code 1, cause and remedy, and publishes nothing."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tests_flows_support import pseudomask, run_words, shared_server, tiny_settings

from data.synthetic.dataset import write_synthetic

IMAGES = 120


@pytest.fixture(scope="module")
def random_tags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a set whose tags were drawn by lot."""
    root = tmp_path_factory.mktemp("random")
    write_synthetic(root, num_images=IMAGES, seed=1, size=(40, 48))
    rng = np.random.default_rng(2)
    with (root / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "labels"])
        for number in range(IMAGES):
            rows.writerow([f"train_{number:05d}", ("ball", "crate", "pennant")[rng.integers(3)]])
    return root


def words(data: Path, folder: Path) -> list[str | Path]:
    fast = ["--classifier.resize-long", "40", "48", "--classifier.crop-size", "48", "--classifier.steps", "8", "8"]
    fast += ["--long-side", "40", "48", "--shard-size", "60", "--labels.crf-iterations", "1"]
    return ["--data", data, "--store", folder / "store", *tiny_settings(), *fast]


def untrained(data: Path, folder: Path) -> list[str | Path]:
    return ["run", *words(data, folder), "--classifier.restarts", "0", "--out", folder / "run", "--json"]


def test_a_classifier_at_chance_ends_the_run(random_tags: Path, tmp_path: Path) -> None:
    refused = pseudomask(*untrained(random_tags, tmp_path))
    assert refused.returncode == 1
    said = " ".join(refused.stderr.split())
    assert "The classifier tells the tags no better than chance on 12 held-out images" in said
    assert "Check that the tags belong to the images" in said
    assert "--go-on goes on all the same" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "labels").exists()


@pytest.mark.slow
def test_after_a_classifier_at_chance_the_run_goes_on_if_asked(random_tags: Path, tmp_path: Path) -> None:
    run = untrained(random_tags, tmp_path)
    assert pseudomask(*run).returncode == 1
    # What is made is kept: the second try does not train again.
    trained = list((tmp_path / "store" / "classifier").iterdir())
    answer = pseudomask(*run, "--go-on")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert "no better than chance" in found["failures"][0]
    assert found["tags"]["classifier"]["measured_on"] == "held-out images"
    assert set(found["tags"]["classifier"]["ap"]) == {"ball", "crate", "pennant"}
    assert list((tmp_path / "store" / "classifier").iterdir()) == trained


def test_labels_that_mean_nothing_are_not_published(random_tags: Path, tmp_path: Path) -> None:
    answer = pseudomask("regenerate", *words(random_tags, tmp_path), "--out", tmp_path / "published")
    assert answer.returncode == 1
    assert "The classifier has learnt nothing: after 2 restarts" in " ".join(answer.stderr.split())
    assert not (tmp_path / "published" / "latest").exists()


def test_a_run_says_which_classes_it_took_and_why(first_run: tuple[Path, dict]) -> None:
    _, answer = first_run
    assert answer["classes"]["origin"] == "the names in classes.txt"
    assert sum(answer["classes"]["images"].values()) >= 12
    assert 0 < answer["thresholds"]["relations"]["background"] <= answer["thresholds"]["relations"]["foreground"]
    assert answer["semantic"]["labels"]["threshold"] == answer["thresholds"]["labels"]["background"]
    assert answer["tags"]["labels"]["tagged_images"] == 12


def test_a_failure_is_explained_once_also_with_a_server_of_the_users(tiny_data: Path, tmp_path: Path) -> None:
    # As a server has it that the user started: it logs what fails with its traceback.
    server = {**shared_server(), "PREFECT_LOGGING_LEVEL": "INFO"}
    failed = pseudomask(*run_words(tiny_data, tmp_path), "--time-limit", "1e-9", server=server)
    assert failed.returncode == 1
    assert "the time limit of the run" in failed.stderr
    assert "Traceback" not in failed.stderr
    verbose = pseudomask(*run_words(tiny_data, tmp_path), "--time-limit", "1e-9", "--verbose", server=server)
    assert "Traceback" in verbose.stderr
