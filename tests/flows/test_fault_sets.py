"""Small sets with one fault each, as people's tools write them: read rightly, or refused by name."""

from pathlib import Path

import numpy as np
import pytest

from data.dataset import VOID, DatasetError
from data.formats.images import read_image
from data.formats.label_maps import read_ground_truth
from data.readers import open_dataset
from flows.commands.looking.doctor import examine_dataset
from tasks.evaluation.folders import evaluate_instances

BOTH = {"a": {"cat"}, "b": {"dog"}, "c": {"cat", "dog"}}
COCO = {"a": {"dog"}, "b": {"cat"}, "c": {"dog"}}
SETS: dict[str, dict[str, set[str]] | str] = {
    "01-coco-polygon-not-finite": "annotation 1: expected coordinates",
    "02-coco-runs-too-short": "annotation 1: expected run lengths",
    "03-twelve-bit": BOTH,
    "04-masks-beside-images": {f"images/{id}": names for id, names in BOTH.items()},
    "05-voc-xml-namespace": {"a": {"cat"}, "b": {"dog"}, "c": {"dog"}},
    "06-csv-open-quote": "line 2: expected `image,labels`",
    "07-binary-masks-255": "found only 0 and 255",
    "09-classes-with-background": BOTH,
    "10-coco-background-category": COCO,
    "11-coco-names": "expected one category of each name, found 'dog' for categories 2, 3",
    "12-voc-xml-gbk": {"a": {"\u732b"}, "b": {"dog"}, "c": {"dog"}},
    "13-coco-wrong-types": COCO,
    "14-coco-mask-forms": COCO,
    "17-other-suffixes": {"a": {"cat"}, "b": {"dog"}, "c": {"cat"}, "d": {"dog"}, "e": {"cat"}},
    "18-csv-headers": BOTH,
    "19-csv-semicolons": BOTH,
    "20-csv-one-hot": BOTH,
    "21-csv-lists-and-nothing": {"a": {"cat", "dog"}, "b": set(), "c": set()},
    "22-class-spelling": "expected one spelling of each class, found 'Caf\u00e9' (line 2) and 'caf\u00e9' (line 3)",
    "23-ids-unicode-forms": {"u\u0308ber": {"cat"}, "b": {"dog"}, "c": {"dog"}},
    "24-windows-paths": {f"sub/{id}": names for id, names in BOTH.items()},
    "25-folders-in-names": {f"images/{id}": names for id, names in BOTH.items()},
    "26-voc-class-lists": BOTH,
    "28-coco-boxes-only": COCO,
    "29-coco-id-types": COCO,
    "30-coco-layouts": COCO,
    "32-text-encodings": BOTH,
    "33-coloured-masks": BOTH,
}
RESULTS = "15-coco-results"


@pytest.fixture
def faults(real_data: Path) -> Path:
    folder = real_data / "faults"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    return folder


@pytest.mark.real_data
def test_every_recorded_set_is_tried(faults: Path) -> None:
    assert {folder.name for folder in faults.iterdir() if folder.is_dir()} <= {*SETS, RESULTS}


@pytest.mark.real_data
@pytest.mark.parametrize("name", SETS)
def test_a_recorded_set_is_read_rightly_or_refused_by_name(faults: Path, name: str) -> None:
    root, expected = faults / name, SETS[name]
    facts, problems = examine_dataset(root, None, None, None)
    if isinstance(expected, str):
        assert any(expected in problem.message and problem.file.is_relative_to(root) for problem in problems)
        return
    assert not problems
    dataset, _ = open_dataset(root)
    names = dataset.classes.names
    assert {sample.id: {names[label] for label in sample.labels} for sample in dataset.samples} == expected
    assert facts["images_with_labels"] == sum(map(bool, expected.values()))
    for sample in dataset.samples:
        assert read_image(sample.image).max() > 100
        if (semantic := read_ground_truth(sample).semantic) is not None:
            found = set(np.unique(semantic).tolist()) - {0, VOID}
            assert found
            assert found <= {label + 1 for label in sample.labels}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "split", "ids"),
    [("24-windows-paths", "train", ["sub/a", "sub/b"]), ("26-voc-class-lists", "cat_train", [*"abc"])],
)
def test_lists_in_the_common_forms_are_read(faults: Path, name: str, split: str, ids: list[str]) -> None:
    assert [sample.id for sample in open_dataset(faults / name, split=split)[0].samples] == ids


@pytest.mark.real_data
def test_recorded_results_of_coco_are_scored_and_null_scores_refused(faults: Path) -> None:
    root = faults / RESULTS
    assert evaluate_instances(root / "results.json", root / "gt.json")["ap50"] == 1
    with pytest.raises(DatasetError, match=r"null-scores\.json: annotation 1 of image 1: .* found null"):
        evaluate_instances(root / "null-scores.json", root / "gt.json")
