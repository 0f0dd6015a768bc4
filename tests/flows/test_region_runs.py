"""`--regions`: runs whose labels follow a segmenter's regions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests_flows_support import pseudomask, run_words

from data.dataset import SampleWithMore
from data.formats.label_maps import read_label_map
from flows.publishing.request import RegenerateRequest
from tasks.engine.run_record import read_run

COLUMNS = 1 + np.arange(80, dtype=np.uint8)[None].repeat(64, 0) // 10


@pytest.fixture(scope="module")
def regions(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Regions of each training image of 64 x 80 pixels: columns of ten pixels, in all three forms."""
    folder = tmp_path_factory.mktemp("regions")
    for number, file in enumerate(sorted((tiny_data / "JPEGImages").glob("train_*"))):
        masks = [value == COLUMNS for value in np.unique(COLUMNS)]
        if number % 3 == 0:
            runs = [{"size": [64, 80], "counts": [640 * place, 640, 640 * (7 - place)]} for place in range(8)]
            found = [{"segmentation": each, "area": 640, "predicted_iou": 0.9} for each in runs]
            (folder / f"{file.stem}.json").write_text(json.dumps(found))
        elif number % 3 == 1:
            Image.fromarray(COLUMNS).save(folder / f"{file.stem}.png")
        else:
            (folder / file.stem).mkdir()
            for place, mask in enumerate(masks):
                Image.fromarray(mask).save(folder / file.stem / f"{place}.png")
    return folder


def test_labels_follow_regions_and_nothing_before_them_is_made_anew(
    first_run: tuple[Path, dict], tiny_data: Path, regions: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(first_run[0] / "store", folder / "store")
    answer = pseudomask(*run_words(tiny_data, folder, ["--regions", regions, "--go-on"]), "--json")
    assert answer.returncode == 0, answer.stderr
    kept = {stage: len(list((folder / "store" / stage).iterdir())) for stage in ("classifier", "irnet", "walk")}
    assert kept == {stage: len(list((first_run[0] / "store" / stage).iterdir())) for stage in kept}
    facts = json.loads(answer.stdout)["tags"]["regions"]
    assert facts["found"] == 8 * 12
    run = folder / "run"
    record = read_run(run)
    assert record.request["regions"] == str(regions)
    assert {type(sample) for sample in record.dataset.samples} == {SampleWithMore}
    taken = 0
    for sample in record.dataset.samples:
        labels = read_label_map(run / "labels/SegmentationClass" / f"{sample.id}.png")
        key = record.stages["labels"].key_of(sample.id)
        ids = read_label_map(folder / f"store/labels/{key}/Regions/{sample.id}.png")
        taken += len(np.unique(ids[ids > 0]))
        assert all(len(np.unique(labels[ids == id])) == 1 for id in np.unique(ids[ids > 0]))
    assert taken == facts["took_a_class"]
    assert pseudomask("report", run).returncode == 0
    assert ("those of the segmenter" in (run / "report/index.html").read_text()) == (taken > 0)
    states = json.loads(pseudomask("status", run, "--json").stdout)["stages"]
    assert {entry["state"] for entry in states.values()} == {"cached"}


def test_what_is_wrong_with_regions_is_told_before_anything_runs(
    tmp_path: Path, tiny_data: Path, regions: Path
) -> None:
    fewer, bad = tmp_path / "fewer", tmp_path / "bad"
    shutil.copytree(regions, fewer)
    (fewer / "train_00003.json").unlink()
    shutil.copytree(regions, bad)
    (bad / "train_00003.json").write_text('[{"segmentation": {"size": [64, 81], "counts": [5184]}}]')
    for words, code, message in (
        (["--regions", fewer], 1, "expected regions, train_00003.json, .png or a folder of that name, found none"),
        (["--regions", bad], 1, "mask number 0: expected the size of train_00003.jpg, 80 x 64, found 81 x 64"),
        (["--regions.least-cover", "0.7"], 2, "the settings of regions are without effect: no regions are given"),
    ):
        answer = pseudomask(*run_words(tiny_data, tmp_path, words))
        assert answer.returncode == code, answer.stderr
        assert message in answer.stderr
    answer = pseudomask("doctor", "--data", tiny_data, "--split", "train", "--regions", bad, "--json")
    assert [problem["sample"] for problem in json.loads(answer.stdout)["problems"]] == ["train_00003"]
    assert not [file for file in tmp_path.glob("store/*") if not file.name.startswith(".")]


def test_a_request_in_json_has_regions_and_their_settings(tmp_path: Path) -> None:
    given = {"data": "photos", "out": "versions", "regions": "masks", "settings": {"regions": {"least_cover": 0.6}}}
    request = RegenerateRequest.model_validate(given)
    assert (request.regions, request.settings.regions.least_cover) == (Path("masks").absolute(), 0.6)
    assert RegenerateRequest.model_validate(request.model_dump(mode="json")) == request
