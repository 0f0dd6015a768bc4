"""Saliency as a prior: what is made of maps and networks, and that all who read scores weigh them alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file

from data.dataset import ClassTable, Dataset, DatasetError, Sample
from data.formats.images import image_size, read_image
from data.formats.label_maps import read_label_map
from models.onnx_saliency import IMAGENET_MEAN, IMAGENET_STD, SaliencyNetwork
from tasks.engine.job import Job
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.relations import mine_relations
from tasks.pipeline.score_maps import MapReader, SaliencyPrior, grid_size, save_maps
from tasks.pipeline.scores import score_shard
from tasks.pipeline.second_round import with_evidence
from tasks.pipeline.seeds.saliency_prior import find_saliency, to_grid
from tasks.pipeline.settings import LabelsConfig, RelationsConfig, SaliencyPriorConfig, ScoresConfig, WalkConfig
from tasks.pipeline.thresholds import choose_thresholds
from tasks.pipeline.walk import walk_scores


def run(dataset: Dataset, out: Path, function, config, **inputs: Path) -> tuple[Path, dict]:
    """Run a stage over a set; return its folder and its summary."""
    out.mkdir()
    folders = {name: (path,) for name, path in inputs.items()}
    job = Job(dataset.samples, dataset.classes, config, out, out.parent / "scratch", inputs=folders)
    return out, function(job)


def write_network(
    file: Path, outputs: tuple[float, float] = (1.0, 0.0), side: int | str = 16, channels: int = 3, out: str = "mean"
) -> Path:
    """Write a network whose map is the mean of its input's channels, times a factor, plus an offset."""
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", channels, side, side])]
    found = [helper.make_tensor_value_info("map", TensorProto.FLOAT, None)]
    nodes = [
        helper.make_node("ReduceMean" if out == "mean" else "Identity", ["pixels"], ["mean"], **MEAN[out]),
        helper.make_node("Mul", ["mean", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["map"]),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        for name, value in zip(("factor", "offset"), outputs, strict=True)
    ]
    graph = helper.make_graph(nodes, "saliency", inputs, found, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, file)
    return file


MEAN = {"mean": {"axes": [1], "keepdims": 1}, "all": {}}


def with_maps(dataset: Dataset, folder: Path, draw) -> Dataset:
    """Give each labelled image of a set a map that `draw` makes of its size."""
    folder.mkdir(exist_ok=True)
    samples = []
    for sample in dataset.samples:
        file = folder / f"{sample.id}.npy"
        np.save(file, draw(image_size(sample.image)).astype(np.float32))
        samples.append(replace(sample, saliency=file if sample.labels else None))
    return replace(dataset, samples=tuple(samples))


def right_half(size: tuple[int, int]) -> np.ndarray:
    saliency = np.zeros(size)
    saliency[:, size[1] // 2 :] = 1
    return saliency


def test_a_map_of_any_size_comes_to_the_grid_by_the_mean_of_each_cell() -> None:
    saliency = np.random.default_rng(0).random((10, 13)).astype(np.float32)
    cells = to_grid(saliency, (10, 13))
    assert cells.shape == (1, *grid_size((10, 13)))
    assert float(cells[0, 1, 1]) == pytest.approx(saliency[4:8, 4:8].mean())
    # A cell that reaches beyond the image repeats its edge.
    assert float(cells[0, 2, 3]) == pytest.approx(saliency[[8, 9, 9, 9], 12].mean())
    large = np.kron(saliency, np.ones((3, 3), np.float32))
    torch.testing.assert_close(to_grid(large, (10, 13)), cells)
    constant = to_grid(np.full((2, 2), 0.25, np.float32), (10, 13))
    torch.testing.assert_close(constant, torch.full_like(constant, 0.25))


def test_the_stage_writes_a_map_for_each_image_with_labels(tiny_set: Dataset, tmp_path: Path) -> None:
    dataset = with_maps(tiny_set, tmp_path / "maps", right_half)
    folder, _ = run(dataset, tmp_path / "out", find_saliency, SaliencyPriorConfig(floor=0.25))
    maps = load_file(folder / "saliency.safetensors")
    assert set(maps) == {sample.id for sample in dataset.samples if sample.labels}
    for sample in dataset.samples:
        if sample.labels:
            size = image_size(sample.image)
            assert maps[sample.id].shape == (1, *grid_size(size))
            expected = to_grid(right_half(size).astype(np.float32), size)
            torch.testing.assert_close(maps[sample.id].float(), expected, atol=1e-3, rtol=0)


def test_scores_are_weighted_by_the_equation_and_those_of_non_salient_classes_are_not(tmp_path: Path, tiny_set) -> None:
    names = tiny_set.classes.names
    samples = (replace(tiny_set.samples[0], labels=(0, 2)),)
    saliency = torch.tensor([[[0.0, 0.5], [1.0, 0.25]]])
    save_maps(tmp_path / "saliency.safetensors", {samples[0].id: saliency})
    config = SaliencyPriorConfig(floor=0.2, non_salient=(names[2],))
    (tmp_path / "settings.json").write_text(config.model_dump_json())
    scores = torch.tensor([[[1.0, 0.5], [0.5, 1.0]]] * 2)
    save_maps(tmp_path / "cams.safetensors", {samples[0].id: scores})
    job = Job(samples, tiny_set.classes, config, tmp_path, tmp_path, inputs={"saliency": (tmp_path,)})
    with MapReader(tmp_path / "cams.safetensors", SaliencyPrior(job).factors) as maps:
        found = maps[samples[0].id]
    torch.testing.assert_close(found[0], scores[0] * (0.2 + 0.8 * saliency[0]))
    torch.testing.assert_close(found[1], scores[1])


def test_saliency_of_1_changes_nothing_in_any_stage(tiny_set: Dataset, artifacts, tmp_path: Path) -> None:
    dataset = with_maps(tiny_set, tmp_path / "maps", np.ones)
    saliency, _ = run(dataset, tmp_path / "saliency", find_saliency, SaliencyPriorConfig(floor=0.0))
    walk, summary = run(
        dataset,
        tmp_path / "walk",
        walk_scores,
        WalkConfig(steps=32),
        **{name: artifacts[name] for name in ("cams", "fields")},
        saliency=saliency,
    )
    for name in ("semantic", "instances"):
        found, expected = (load_file(folder / f"{name}.safetensors") for folder in (walk, artifacts["walk"]))
        assert found.keys() == expected.keys()
        for id in found:
            torch.testing.assert_close(found[id], expected[id])
    assert summary["salient"] == summary["tags"]
    labels, _ = run(dataset, tmp_path / "labels", synthesize_labels, LabelsConfig(), walk=walk, saliency=saliency)
    assert (labels / "instances.json").read_bytes() == (artifacts["labels"] / "instances.json").read_bytes()


def test_nothing_is_found_where_saliency_and_floor_are_0(tiny_set: Dataset, artifacts, tmp_path: Path) -> None:
    dataset = with_maps(tiny_set, tmp_path / "maps", right_half)
    saliency, _ = run(dataset, tmp_path / "saliency", find_saliency, SaliencyPriorConfig(floor=0.0))
    reads = {"cams": artifacts["cams"], "saliency": saliency}
    walk, _ = run(dataset, tmp_path / "walk", walk_scores, WalkConfig(steps=32), fields=artifacts["fields"], **reads)
    config = LabelsConfig(background_threshold=0.1, min_area=0)
    labels, _ = run(dataset, tmp_path / "labels", synthesize_labels, config, walk=walk, saliency=saliency)
    painted = 0
    for sample in dataset.samples:
        # Bilinear interpolation reaches one cell far.
        end = image_size(sample.image)[1] // 2 - 8
        for kind in ("SegmentationClass", "SegmentationObject"):
            found = read_label_map(labels / kind / f"{sample.id}.png")
            assert not found[:, :end].any()
            painted += int((found > 0).sum())
    assert painted
    # The walk itself has spread into that half, so it is the labels' own weighting that empties it.
    spread = [maps[..., : maps.shape[-1] // 2 - 1].max() for maps in load_file(walk / "semantic.safetensors").values()]
    assert max(spread) > 0


@pytest.mark.parametrize("non_salient", [False, True])
def test_instances_are_weighted_as_their_classes_are(
    tiny_set: Dataset, artifacts, tmp_path: Path, non_salient: bool
) -> None:
    dataset = with_maps(tiny_set, tmp_path / "maps", right_half)
    config = SaliencyPriorConfig(floor=0.0, non_salient=tiny_set.classes.names if non_salient else ())
    saliency, _ = run(dataset, tmp_path / "saliency", find_saliency, config)
    labels, _ = run(
        dataset,
        tmp_path / "labels",
        synthesize_labels,
        LabelsConfig(background_threshold=0.0, min_area=0),
        walk=artifacts["walk"],
        saliency=saliency,
    )
    left = []
    for sample in dataset.samples:
        end = image_size(sample.image)[1] // 2 - 8
        found = [read_label_map(labels / f"Segmentation{kind}" / f"{sample.id}.png") for kind in ("Class", "Object")]
        np.testing.assert_array_equal(found[0] > 0, found[1] > 0)
        left.append(found[1][:, :end].any())
    assert any(left) == non_salient


def test_thresholds_and_scores_read_weighted_maps(tiny_set: Dataset, artifacts, tmp_path: Path) -> None:
    dataset = with_maps(tiny_set, tmp_path / "maps", np.zeros)
    saliency, _ = run(dataset, tmp_path / "saliency", find_saliency, SaliencyPriorConfig(floor=0.0))
    reads = {"cams": artifacts["cams"], "saliency": saliency}
    relations = RelationsConfig(foreground_threshold="auto", threshold_images=2, crf_iterations=1)
    found, _ = run(dataset, tmp_path / "thresholds", choose_thresholds, relations, **reads)
    assert not any(json.loads((found / "thresholds.json").read_text())["area"])
    truthful = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.semantic))
    config = ScoresConfig(cam_thresholds=(0.3,), crf_thresholds=(0.3,), component_thresholds=(0.3,))
    walk, labels = artifacts["walk"], artifacts["labels"]
    scores, _ = run(truthful, tmp_path / "scores", score_shard, config, walk=walk, labels=labels, **reads)
    with np.load(scores / "scores.npz") as arrays:
        assert arrays["confusion:cam@0.3"][:, 1:].sum() == 0


def test_relations_and_walk_read_weighted_maps(tiny_set: Dataset, artifacts, tmp_path: Path) -> None:
    dataset = with_maps(tiny_set, tmp_path / "maps", np.zeros)
    saliency, _ = run(dataset, tmp_path / "saliency", find_saliency, SaliencyPriorConfig(floor=0.0))
    reads = {"cams": artifacts["cams"], "saliency": saliency}
    config = RelationsConfig(foreground_threshold=0.1, crf_iterations=1)
    _, weighted = run(dataset, tmp_path / "relations", mine_relations, config, **reads)
    _, plain = run(dataset, tmp_path / "plain", mine_relations, config, cams=artifacts["cams"])
    assert any(plain["tags_found"].values())
    assert not any(weighted["tags_found"].values())
    walk, summary = run(dataset, tmp_path / "walk", walk_scores, WalkConfig(), fields=artifacts["fields"], **reads)
    assert summary["instances"] == 0
    assert not any(maps.any() for maps in load_file(walk / "semantic.safetensors").values())


def test_how_much_of_the_cams_is_salient_is_measured(tiny_set: Dataset, artifacts, tmp_path: Path) -> None:
    dataset = with_maps(tiny_set, tmp_path / "maps", lambda size: np.full(size, 0.125))
    config = SaliencyPriorConfig(non_salient=(tiny_set.classes.names[0],))
    saliency, _ = run(dataset, tmp_path / "saliency", find_saliency, config)
    reads = {"cams": artifacts["cams"], "fields": artifacts["fields"], "saliency": saliency}
    _, summary = run(dataset, tmp_path / "walk", walk_scores, WalkConfig(steps=1), **reads)
    assert summary["tags"]
    for c, count in summary["tags"].items():
        assert summary["salient"][c] == pytest.approx(count if c == 0 else 0.125 * count, rel=1e-3)
        assert summary["hidden"][c] == (0 if c == 0 else count)


def photograph() -> np.ndarray:
    image = np.random.default_rng(3).integers(0, 200, (24, 40, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 3), np.uint8)


def seen(image: np.ndarray, side: int, scale: float, mean: tuple, std: tuple) -> np.ndarray:
    interpolation = cv2.INTER_AREA if side < 24 else cv2.INTER_LINEAR
    small = cv2.resize(image, (side, side), interpolation=interpolation)
    return ((small / scale - mean) / std).mean(axis=2)


@pytest.mark.parametrize("side", [16, "free"])
def test_a_network_of_u2net_s_kind_sees_imagenet_s_colours_and_its_map_is_stretched(tmp_path: Path, side) -> None:
    file = write_network(tmp_path / "net.onnx", (0.1, 0.5), side)
    found = SaliencyNetwork(file)(photograph())
    side = 320 if side == "free" else side
    small = cv2.resize(photograph(), (side, side), interpolation=cv2.INTER_AREA if side < 24 else cv2.INTER_LINEAR)
    expected = seen(photograph(), side, float(small.max()), IMAGENET_MEAN, IMAGENET_STD)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_network_of_1024_is_isnet_s_kind_or_where_it_gives_logits_birefnet_s(tmp_path: Path) -> None:
    isnet = SaliencyNetwork(write_network(tmp_path / "isnet.onnx", (1.0, 0.5), 1024))
    expected = seen(photograph(), 1024, 255, (0.5,) * 3, (1.0,) * 3)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(isnet(photograph()), expected, atol=1e-4)
    birefnet = SaliencyNetwork(write_network(tmp_path / "birefnet.onnx", (4.0, -2.0), 1024))
    logits = 4 * seen(photograph(), 1024, 255, IMAGENET_MEAN, IMAGENET_STD) - 2
    for _ in range(2):
        np.testing.assert_allclose(birefnet(photograph()), 1 / (1 + np.exp(-logits)), atol=1e-4)


def test_a_black_photograph_and_a_flat_map_are_finite(tmp_path: Path) -> None:
    found = SaliencyNetwork(write_network(tmp_path / "net.onnx", (0.0, 0.3)))(np.zeros((8, 8, 3), np.uint8))
    np.testing.assert_allclose(found, 0.3, atol=1e-6)


def test_other_networks_and_their_outputs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="expected a network in ONNX"):
        SaliencyNetwork(tmp_path / "text.onnx")
    with pytest.raises(ValueError, match=r"of one input \[1, 3, H, W\] of floats, found \['n', 4, 16, 16\]"):
        SaliencyNetwork(write_network(tmp_path / "four.onnx", channels=4))
    with pytest.raises(ValueError, match=r"an output of one map \[1, 1, H, W\], found \[1, 3, 16, 16\]"):
        SaliencyNetwork(write_network(tmp_path / "three.onnx", out="all"))(photograph())
    with pytest.raises(ValueError, match="finite"):
        SaliencyNetwork(write_network(tmp_path / "nan.onnx", (float("inf"), 0.0)))(photograph())


def test_the_stage_runs_a_network_over_images_with_labels_and_names_it_where_it_fails(
    tiny_set: Dataset, tmp_path: Path
) -> None:
    file = write_network(tmp_path / "net.onnx", (0.1, 0.5))
    samples = tuple(replace(sample, saliency=file if sample.labels else None) for sample in tiny_set.samples)
    dataset = replace(tiny_set, samples=samples)
    folder, _ = run(dataset, tmp_path / "out", find_saliency, SaliencyPriorConfig())
    maps, network = load_file(folder / "saliency.safetensors"), SaliencyNetwork(file)
    assert set(maps) == {sample.id for sample in samples if sample.labels}
    for sample in samples:
        if sample.labels:
            image = read_image(sample.image)
            expected = to_grid(network(image), (image.shape[0], image.shape[1]))
            torch.testing.assert_close(maps[sample.id].float(), expected, atol=1e-3, rtol=0)
    write_network(file, (float("inf"), 0.0))
    with pytest.raises(DatasetError, match=r"net\.onnx: expected an output of finite values"):
        run(dataset, tmp_path / "again", find_saliency, SaliencyPriorConfig())


def test_saliency_beyond_what_is_usual_multiplies_the_odds_of_salient_classes_alone(tmp_path: Path) -> None:
    prior = salient_prior(tmp_path, [[0.0, 0.25, 1.0]], "dog", "sky")
    evidence = prior.evidence("a")
    usual = (0.1 + 0.9 * 0.25) / (1 - 0.9 * 0.25)
    torch.testing.assert_close(evidence[:, 0], torch.tensor([[0.1 / usual, 1.0, 10.0 / usual], [1.0, 1.0, 1.0]]))
    before = torch.tensor([0.4, 0.2])[:, None, None].expand(2, 1, 3)
    after = with_evidence(before, evidence)
    background = 1 - after.sum(0)
    assert (background > 0).all()
    torch.testing.assert_close(after[0] / background, evidence[0])
    torch.testing.assert_close(after[1] / background, torch.full((1, 3), 0.2 / 0.4))


def salient_prior(folder: Path, saliency: list[list[float]], *classes: str) -> SaliencyPrior:
    """Return the prior of an image `a` with all classes, of which the last is not salient, and a floor of 0.1."""
    save_maps(folder / "saliency.safetensors", {"a": torch.tensor([saliency])})
    (folder / "settings.json").write_text(SaliencyPriorConfig(floor=0.1, non_salient=classes[-1:]).model_dump_json())
    sample = Sample("a", folder / "a.jpg", tuple(range(len(classes))))
    job = Job((sample,), ClassTable(classes), SaliencyPriorConfig(), folder, folder, inputs={"saliency": (folder,)})
    return SaliencyPrior(job)
