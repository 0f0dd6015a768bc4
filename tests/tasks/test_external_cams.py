"""Stage `cams` with maps of another method, and what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.cam_writers import draw_maps, full, write_maps

from data.dataset import ClassTable, Dataset, DatasetError, Sample
from data.formats.images import image_size
from data.readers.beside.cams import with_cams
from tasks.engine.job import Job
from tasks.engine.source import source_parts
from tasks.engine.stage import ExternalCamConfig
from tasks.evaluation.health import check_stage
from tasks.pipeline import STAGES, with_external_cams
from tasks.pipeline.score_maps import grid_size
from tasks.pipeline.seeds.external_cams import maps_to_grid, read_external_cams

CLASSES = ClassTable(("cat", "dog"))
SAMPLES = tuple(Sample(f"{n:02d}", Path("a.jpg"), (n % 2,)) for n in range(10))


def run(dataset: Dataset, out: Path, long_side: tuple[int, int] | None = None) -> tuple[dict[str, torch.Tensor], dict]:
    assert dataset.cams is not None
    out.mkdir()
    config = ExternalCamConfig(family=dataset.cams.family, names=dataset.cams.names, missing=dataset.cams.missing)
    job = Job(dataset.samples, dataset.classes, config, out, out.parent / "scratch", long_side=long_side)
    summary = read_external_cams(job)
    return load_file(out / "cams.safetensors"), json.loads(json.dumps(summary))


def given_maps(dataset: Dataset, folder: Path, form: str) -> Dataset:
    folder.mkdir()
    # The classes of the set, which has fewer than the writers' forms for all classes.
    for number, sample in enumerate(dataset.samples):
        if sample.labels:
            size = image_size(sample.image)
            write_maps(folder, form, sample.id, draw_maps(sample.labels, size, number), size)
    return with_cams(dataset, folder)[0]


@pytest.mark.parametrize("form", ["irn", "clip-es", "psa", "fma"])
def test_the_stage_writes_the_maps_of_every_image_with_labels_at_stride_4(
    tiny_set: Dataset, tmp_path: Path, form: str
) -> None:
    dataset = given_maps(tiny_set, tmp_path / "maps", form)
    found, summary = run(dataset, tmp_path / "out")
    assert set(found) == {sample.id for sample in dataset.samples if sample.labels}
    for number, sample in enumerate(dataset.samples):
        if sample.labels:
            size = image_size(sample.image)
            wanted = np.stack(list(draw_maps(sample.labels, size, number).values()))
            assert found[sample.id].shape == (len(sample.labels), *grid_size(size))
            assert found[sample.id].dtype == torch.float16
            np.testing.assert_allclose(found[sample.id].float().numpy(), wanted, atol=1e-3)
    assert sum(summary["tags"].values()) == sum(len(sample.labels) for sample in dataset.samples)
    assert not summary["remarks"]
    assert not summary["empty"]


def test_maps_lie_on_the_grid_of_the_size_that_the_run_works_at(tiny_set: Dataset, tmp_path: Path) -> None:
    dataset = given_maps(tiny_set, tmp_path / "maps", "irn")
    found, _ = run(dataset, tmp_path / "out", (160, 160))
    sample = dataset.samples[0]
    assert found[sample.id].shape[1:] == grid_size((128, 160))


def test_of_maps_of_any_size_each_cell_is_the_mean_of_what_it_covers() -> None:
    values = np.random.default_rng(0).random((2, 21, 70)).astype(np.float32)
    cells = maps_to_grid(values, (21, 70)).numpy()
    assert cells.shape == (2, 6, 18)
    np.testing.assert_allclose(cells[1, 2, 3], values[1, 8:12, 12:16].mean(), rtol=1e-5)
    # The last row of the image stands for those beyond it.
    np.testing.assert_allclose(cells[0, 5, 0], values[0, 20, :4].mean(), rtol=1e-5)
    larger = full(values, (84, 280))
    np.testing.assert_allclose(maps_to_grid(larger, (21, 70)).numpy(), cells, atol=1e-5)
    grid = values[:, :6, :18]
    np.testing.assert_array_equal(maps_to_grid(grid, (21, 70)).numpy(), grid)


def test_maps_on_a_grid_of_patches_are_interpolated() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (1, 6, 8)) / 8
    found = maps_to_grid(np.ascontiguousarray(ramp), (96, 128)).numpy()
    assert found.shape == (1, 24, 32)
    # The middle of cell x lies at (x + 0.5) / 4 - 0.5 patches.
    wanted = ((np.arange(2, 30) + 0.5) / 4 - 0.5) / 8
    np.testing.assert_allclose(found[0, 3, 2:30], wanted, atol=1e-5)


def test_classes_that_are_left_out_of_the_labels_later_are_left_out_of_the_maps(
    tiny_set: Dataset, tmp_path: Path
) -> None:
    dataset = given_maps(tiny_set, tmp_path / "maps", "psa")
    several = next(sample for sample in dataset.samples if len(sample.labels) > 1)
    fewer = replace(several, labels=several.labels[1:])
    whole, _ = run(replace(dataset, samples=(several,)), tmp_path / "whole")
    found, summary = run(replace(dataset, samples=(fewer,)), tmp_path / "fewer")
    torch.testing.assert_close(found[fewer.id], whole[several.id][1:])
    assert summary["remarks"] == {"of other classes": 1}


def test_a_file_that_became_bad_is_named(tiny_set: Dataset, tmp_path: Path) -> None:
    dataset = given_maps(tiny_set, tmp_path / "maps", "psa")
    file = dataset.samples[0].cams
    assert file is not None
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DatasetError, match=rf"{file.name}: expected class attention maps, but"):
        run(dataset, tmp_path / "out")


def test_maps_of_another_method_have_a_source_and_no_classifier() -> None:
    stages = with_external_cams(STAGES)
    assert [stage.name for stage in stages] == [stage.name for stage in STAGES if stage.name != "classifier"]
    assert not any("classifier" in stage.needs for stage in stages)
    (cams,) = [stage for stage in stages if stage.name == "cams"]
    assert {"data.cam_maps:read_cams", "data.pickles:read_npy"} <= source_parts(cams.function).keys()
    assert "models.cam:CAMNet" not in source_parts(cams.function)


def summary_of(**changes) -> dict:
    return {"tags": {"0": 5, "1": 5}, "without_map": {}, "empty": {}, "remarks": {}, "examples": {}} | changes


def test_what_files_held_is_said_and_maps_that_are_all_empty_end_the_run() -> None:
    assert not check_stage("cams", [{}], SAMPLES, CLASSES).facts
    assert not check_stage("cams", [summary_of()], SAMPLES, CLASSES).warnings
    doubtful = summary_of(remarks={"not finite": 2, "above 1": 3}, examples={"not finite": "03", "above 1": "04"})
    health = check_stage("cams", [doubtful, summary_of(empty={"1": 8})], SAMPLES, CLASSES)
    above, not_finite, empty = health.warnings
    assert "scores that are above 1 in 3 files, for one 04: each such map was divided" in above
    assert "scores that are not finite in 2 files, for one 03" in not_finite
    assert "Most maps of dog are empty" in empty
    assert health.facts["cams"]["empty_maps"] == {"dog": 8}
    assert not health.failures
    (failure,) = check_stage("cams", [summary_of(empty={"0": 5, "1": 5})], SAMPLES, CLASSES).failures
    assert "All class attention maps are empty" in failure


def test_no_remedy_names_a_classifier_that_is_not_there() -> None:
    summary = {"tags": {"0": 5}, "tags_found": {"0": 0}, "tags_area": {"0": 0}}
    summary["empty"] = {s.id: [0, 1] for s in SAMPLES}
    for stage in ("relations", "labels"):
        healths = [check_stage(stage, [summary], SAMPLES, CLASSES, external=external) for external in (False, True)]
        said = [" ".join((*health.failures, *health.warnings)) for health in healths]
        assert "train the classifier longer" in said[0]
        assert "classifier" not in said[1]
