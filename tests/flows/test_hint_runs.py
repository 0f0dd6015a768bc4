"""`--hints`: runs whose seeds and labels follow what a person said of some pixels."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests_flows_support import pseudomask, run_words

from data.formats.label_maps import read_label_map
from data.readers import open_dataset
from flows.publishing.request import RegenerateRequest
from tasks.engine.run_record import read_run


@pytest.fixture(scope="module")
def hints(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes in one training image, a stroke in another, and a map of values in a third."""
    folder = tmp_path_factory.mktemp("hints")
    dataset, _ = open_dataset(tiny_data, split="train")
    boxed, drawn, mapped = [sample for sample in dataset.samples if sample.labels][:3]
    sides = "<xmin>11</xmin><ymin>11</ymin><xmax>40</xmax><ymax>40</ymax>"
    names = [dataset.classes.names[label] for label in boxed.labels]
    objects = "".join(f"<object><name>{name}</name><bndbox>{sides}</bndbox></object>" for name in names)
    (folder / f"{boxed.id}.xml").write_text(f"<annotation>{objects}</annotation>")
    name = dataset.classes.names[drawn.labels[0]]
    shape = {"label": name, "shape_type": "line", "points": [[10, 20], [60, 20]]}
    (folder / f"{drawn.id}.json").write_text(json.dumps({"shapes": [shape]}))
    values = np.full((64, 80), 255, np.uint8)
    values[:8], values[20:30, 20:30] = 0, mapped.labels[0] + 1
    Image.fromarray(values).save(folder / f"{mapped.id}.png")
    return folder


def test_labels_have_what_was_said_and_only_what_sees_it_is_made_anew(
    first_run: tuple[Path, dict], tiny_data: Path, hints: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(first_run[0] / "store", folder / "store")
    answer = pseudomask(*run_words(tiny_data, folder, ["--hints", hints, "--go-on"]), "--json")
    assert answer.returncode == 0, answer.stderr
    count = lambda root, stage: len(list((root / "store" / stage).glob("*/manifest.json")))  # noqa: E731
    assert count(folder, "classifier") == count(first_run[0], "classifier")
    assert count(folder, "irnet") == count(first_run[0], "irnet") + 1
    run = folder / "run"
    record = read_run(run)
    sources = {sample.id: getattr(sample, "hints", None) for sample in record.dataset.samples}
    assert sorted(file.name for file in sources.values() if file) == sorted(file.name for file in hints.iterdir())
    for sample in record.dataset.samples:
        source = sources[sample.id]
        if source is None:
            continue
        labels = read_label_map(run / "labels/SegmentationClass" / f"{sample.id}.png")
        if source.suffix == ".xml":
            outside = np.ones(labels.shape, bool)
            outside[10:40, 10:40] = False
            assert not labels[outside].any()
        elif source.suffix == ".json":
            assert (labels[20, 12:58] == sample.labels[0] + 1).all()
        else:
            assert not labels[:8].any()
            assert (labels[20:30, 20:30] == sample.labels[0] + 1).all()
    states = json.loads(pseudomask("status", run, "--json").stdout)["stages"]
    assert {entry["state"] for entry in states.values()} == {"cached"}


def test_a_changed_hint_makes_anew_what_sees_it(
    first_run: tuple[Path, dict], tiny_data: Path, hints: Path, tmp_path: Path
) -> None:
    shutil.copytree(hints, tmp_path / "hints")
    words = run_words(tiny_data, first_run[0], ["--hints", tmp_path / "hints", "--networks", first_run[0] / "run"])
    words[words.index("--out") + 1] = tmp_path / "run"
    assert pseudomask(*words, "--go-on").returncode == 0
    (file,) = (tmp_path / "hints").glob("*.json")
    document = json.loads(file.read_text())
    document["shapes"][0]["points"][0] = [30, 20]
    file.write_text(json.dumps(document))
    states = json.loads(pseudomask("status", tmp_path / "run", "--json").stdout)["stages"]
    changed = {stage for stage, entry in states.items() if entry["state"] != "cached"}
    assert {"cams", "walk", "labels"} <= changed
    reasons = json.dumps(states["cams"])
    assert f"with other hints: {file.stem}" in reasons


def test_what_is_wrong_with_hints_is_told_before_anything_runs(tmp_path: Path, tiny_data: Path, hints: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(hints, bad)
    (file,) = bad.glob("*.json")
    file.write_text(json.dumps({"shapes": [{"label": "teapot", "shape_type": "point", "points": [[1, 1]]}]}))
    answer = pseudomask(*run_words(tiny_data, tmp_path, ["--hints", bad]))
    assert answer.returncode == 1
    assert f"{file}: expected classes of the set, found 'teapot'" in answer.stderr
    answer = pseudomask("doctor", "--data", tiny_data, "--split", "train", "--hints", bad, "--json")
    assert [problem["sample"] for problem in json.loads(answer.stdout)["problems"]] == [file.stem]
    assert not [file for file in tmp_path.glob("store/*") if not file.name.startswith(".")]


def test_a_request_in_json_has_hints() -> None:
    request = RegenerateRequest.model_validate({"data": "photos", "out": "versions", "hints": "boxes"})
    assert request.hints == Path("boxes").absolute()
    assert RegenerateRequest.model_validate(request.model_dump(mode="json")) == request
