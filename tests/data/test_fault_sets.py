"""Small sets with one fault each, as people's tools write them: read rightly, or refused by name."""

from pathlib import Path

import pytest

from data.dataset import DatasetError
from data.readers import open_dataset

BOTH = {"a": {"cat"}, "b": {"dog"}, "c": {"cat", "dog"}}
COCO = {"a": {"dog"}, "b": {"cat"}, "c": {"dog"}}
READ = {
    "04-masks-beside-images": {f"images/{id}": names for id, names in BOTH.items()},
    "05-voc-xml-namespace": {"a": {"cat"}, "b": {"dog"}, "c": {"dog"}},
    "09-classes-with-background": BOTH,
    "10-coco-background-category": COCO,
    "12-voc-xml-gbk": {"a": {"\u732b"}, "b": {"dog"}, "c": {"dog"}},
    "17-other-suffixes": {"a": {"cat"}, "b": {"dog"}, "c": {"cat"}, "d": {"dog"}, "e": {"cat"}},
    "18-csv-headers": BOTH,
    "19-csv-semicolons": BOTH,
    "20-csv-one-hot": BOTH,
    "21-csv-lists-and-nothing": {"a": {"cat", "dog"}, "b": set(), "c": set()},
    "23-ids-unicode-forms": {"u\u0308ber": {"cat"}, "b": {"dog"}, "c": {"dog"}},
    "24-windows-paths": {f"sub/{id}": names for id, names in BOTH.items()},
    "25-folders-in-names": {f"images/{id}": names for id, names in BOTH.items()},
    "26-voc-class-lists": BOTH,
    "30-coco-layouts": COCO,
    "32-text-encodings": BOTH,
}
REFUSED = {
    "06-csv-open-quote": "labels.csv: line 2: expected `image,labels`",
    "11-coco-names": "expected one category of each name, found 'dog' for categories 2, 3",
    "22-class-spelling": "expected one spelling of each class, found 'Caf\u00e9' (line 2) and 'caf\u00e9' (line 3)",
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", READ)
def test_sets_in_the_common_forms_are_read(real_data: Path, name: str) -> None:
    if not (real_data / "faults").is_dir():
        pytest.skip("there are no faults in the folder")
    dataset, problems = open_dataset(real_data / "faults" / name)
    names = dataset.classes.names
    assert not problems
    assert {sample.id: {names[label] for label in sample.labels} for sample in dataset.samples} == READ[name]


@pytest.mark.real_data
@pytest.mark.parametrize("name", REFUSED)
def test_sets_that_cannot_be_understood_are_refused_by_name(real_data: Path, name: str) -> None:
    if not (real_data / "faults").is_dir():
        pytest.skip("there are no faults in the folder")
    with pytest.raises(DatasetError) as caught:
        open_dataset(real_data / "faults" / name)
    assert REFUSED[name] in str(caught.value)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "split", "ids"),
    [("24-windows-paths", "train", ["sub/a", "sub/b"]), ("26-voc-class-lists", "cat_train", [*"abc"])],
)
def test_lists_in_the_common_forms_are_read(real_data: Path, name: str, split: str, ids: list[str]) -> None:
    if not (real_data / "faults").is_dir():
        pytest.skip("there are no faults in the folder")
    assert [sample.id for sample in open_dataset(real_data / "faults" / name, split=split)[0].samples] == ids
