"""Labels of images in memory are those of the stages."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data.dataset import ClassTable, Dataset, Sample
from data.formats.images import read_image
from data.formats.label_maps import read_label_map
from tasks.engine.job import Job
from tasks.in_memory import Predictor, refine_cams
from tasks.networks import NETWORKS
from tasks.networks.stages.segmentation import build_network, predict
from tasks.networks.trainer import SegmentationConfig, SegmenterConfig
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.score_maps import MapReader
from tasks.pipeline.settings import LabelsConfig, WalkConfig
from tasks.training.saving import save_network

WALK, PLAIN = WalkConfig(steps=32), LabelsConfig()


def blobs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return image, CAM, boundary and displacement of one wide object area that is two instances side by side."""
    cams, displacement = np.zeros((1, 20, 40), np.float32), np.zeros((2, 20, 40), np.float32)
    cams[:, 4:16, 4:36] = 1
    y, x = np.mgrid[:20, :40]
    displacement[0], displacement[1] = 10 - y, np.where(x < 20, 12, 28) - x
    return np.zeros((80, 160, 3), np.uint8), cams, np.full((20, 40), 0.2, np.float32), displacement


@pytest.mark.parametrize("iterations", [0, 3])
def test_cams_and_fields_give_the_labels_of_the_stages(
    tiny_set: Dataset, artifacts: dict[str, Path], run_stage, iterations: int
) -> None:
    config = LabelsConfig(crf_iterations=iterations)
    written = run_stage(synthesize_labels, config, walk=artifacts["walk"])
    with (
        MapReader(artifacts["cams"] / "cams.safetensors") as cams,
        MapReader(artifacts["fields"] / "boundary.safetensors") as boundaries,
        MapReader(artifacts["fields"] / "displacement.safetensors") as displacements,
    ):
        labelled = [sample for sample in tiny_set.samples if sample.id in cams]
        given = [[reader[sample.id] for sample in labelled] for reader in (cams, boundaries, displacements)]
    images = [read_image(sample.image) for sample in labelled]
    for sample, found in zip(labelled, refine_cams(images, *given, WALK, config), strict=True):
        expected = read_label_map(written / "SegmentationClass" / f"{sample.id}.png")
        values = np.array([0, *(c + 1 for c in sample.labels)], np.uint8)
        # The stages keep the walked maps in half precision.
        assert (values[found.semantic] == expected).mean() > 0.99
        objects = read_label_map(written / "SegmentationObject" / f"{sample.id}.png")
        assert found.instances.max() == objects.max()
        assert ((found.instances > 0) == (objects > 0)).mean() > 0.99


def test_a_displacement_field_divides_objects_and_without_one_there_are_none() -> None:
    image, cams, boundary, displacement = blobs()
    (found,) = refine_cams([image], [cams], [boundary], [displacement], WALK, PLAIN)
    assert found.rows == [0, 0]
    centres = sorted(float(np.nonzero(mask)[1].mean()) for mask in found.masks)
    assert centres == pytest.approx([40, 120], abs=6)
    assert set(np.unique(found.instances)) - {0} == {1, 2}
    (alone,) = refine_cams([image], [cams], [boundary], None, WALK, PLAIN)
    assert (alone.masks.shape, alone.instances.max()) == ((0, 80, 160), 0)
    assert (alone.semantic == found.semantic).mean() > 0.99


def test_maps_of_any_size_and_kind_are_brought_to_the_grid() -> None:
    image, cams, boundary, _ = blobs()
    large = np.kron(cams[0], np.ones((4, 4), np.float32))[None]
    (expected,) = refine_cams([image], [cams], [boundary], None, WALK, PLAIN)
    (found,) = refine_cams([image], [torch.tensor(large)], [boundary[:10, :20].tolist()], None, WALK, PLAIN)
    assert (found.semantic == expected.semantic).mean() > 0.97


def test_a_boundary_holds_the_scores_back() -> None:
    image, cams, boundary, _ = blobs()
    cams[:, :, 20:] = 0
    open_, closed = np.zeros_like(boundary), np.zeros_like(boundary)
    closed[:, 22] = 1
    thin = np.zeros((80, 160), np.float32)
    thin[:, 91] = 1
    free, held, line = (
        refine_cams([image], [cams], [walls], None, WALK, PLAIN)[0].semantic for walls in (open_, closed, thin)
    )
    assert (free[:, 96:] == 1).mean() > 0.05
    assert (held[:, 96:] == 1).mean() < 0.01
    np.testing.assert_array_equal(line, held)


def test_an_image_without_classes_is_background() -> None:
    image, _, boundary, displacement = blobs()
    (found,) = refine_cams([image], [np.zeros((0, 20, 40))], [boundary], [displacement], WALK, PLAIN)
    assert not found.semantic.any()
    assert (found.rows, found.scores) == ([], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cams": -1}, r"cams 0: expected scores \[K, h, w\] from 0.* from -1"),
        ({"cams": np.nan}, "cams 0"),
        ({"boundary": 1.5}, r"boundary 0: expected probabilities \[h, w\] in \[0, 1\]"),
        ({"displacement": np.inf}, r"displacement 0: expected \(dy, dx\) \[2, 20, 40\]"),
    ],
)
def test_values_out_of_range_are_named(change: dict[str, float], message: str) -> None:
    image, cams, boundary, displacement = blobs()
    arrays = {"cams": cams, "boundary": boundary, "displacement": displacement}
    for name, value in change.items():
        arrays[name][..., 0, 0] = value
    with pytest.raises(ValueError, match=message):
        refine_cams([image], [cams], [boundary], [displacement], WALK, PLAIN)


def test_arrays_whose_axes_lie_otherwise_are_refused_and_stretched_ones_are_not() -> None:
    image, cams, boundary, _ = blobs()
    turned = "got {} for an image of \\[80, 160\\]: the axes lie in another order"
    for wrong in (cams.transpose(0, 2, 1), cams.transpose(1, 2, 0)):
        with pytest.raises(ValueError, match="cams 0: .*" + turned.format(rf"\[{', '.join(map(str, wrong.shape))}\]")):
            refine_cams([image], [wrong], [boundary], None, WALK, PLAIN)
    with pytest.raises(ValueError, match="boundary 0: .*" + turned.format(r"\[40, 20\]")):
        refine_cams([image], [cams], [boundary.T], None, WALK, PLAIN)
    # Of a network that sees every image as a square.
    square = np.ones((len(cams), 7, 7), np.float32)
    (found,) = refine_cams([image], [square], [boundary], None, WALK, PLAIN)
    assert found.semantic.shape == (80, 160)
    assert (found.semantic > 0).all()


def test_what_is_no_sequence_of_arrays_is_said_to_be_none() -> None:
    image, cams, boundary, _ = blobs()
    with pytest.raises(ValueError, match="boundary: expected a sequence of arrays, one for each image, got NoneType"):
        refine_cams([image], [cams], None, None, WALK, PLAIN)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="images: expected a sequence of arrays, one for each image, got dict"):
        refine_cams({"a": image}, [cams], [boundary], None, WALK, PLAIN)  # pyright: ignore[reportArgumentType]
    (whole,) = refine_cams([image], [cams], [boundary], None, WALK, PLAIN)
    (from_iterators,) = refine_cams(*map(iter, ([image], [cams], [boundary])), None, WALK, PLAIN)  # pyright: ignore
    np.testing.assert_array_equal(from_iterators.semantic, whole.semantic)
    cams = cams.copy()
    cams[0, :1, :3] = np.nan
    with pytest.raises(ValueError, match=rf"cams 0: .* of which 3 of {cams.size} values are not finite"):
        refine_cams([image], [cams], [boundary], None, WALK, PLAIN)


def test_shapes_and_numbers_that_do_not_fit_are_named() -> None:
    image, cams, boundary, displacement = blobs()
    with pytest.raises(ValueError, match=r"boundary: expected one for each of 1 images, got 2"):
        refine_cams([image], [cams], [boundary, boundary], None, WALK, PLAIN)
    with pytest.raises(ValueError, match=r"image 0: expected RGB, uint8 \[H, W, 3\], got float64 \[80, 160, 3\]"):
        refine_cams([image / 255], [cams], [boundary], None, WALK, PLAIN)
    with pytest.raises(ValueError, match=r"displacement 0: .* got \[2, 19, 40\]"):
        refine_cams([image], [cams], [boundary], [displacement[:, 1:]], WALK, PLAIN)


@pytest.mark.parametrize("iterations", [0, 2])
def test_a_network_says_of_an_image_what_the_stage_writes(tmp_path: Path, iterations: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 56, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    sample, classes = Sample("a", tmp_path / "a.png", (0,)), ClassTable(("cat", "dog"))
    (tmp_path / "net").mkdir()
    (tmp_path / "out").mkdir()
    config = SegmenterConfig(crop_size=64)
    training = Job(
        (sample,),
        classes,
        config,
        tmp_path,
        tmp_path,
        stage="deeplabv2",
        backbone="resnet18",
        model=NETWORKS["deeplabv2"].model,
    )
    net, _ = build_network(training)
    save_network(net, tmp_path / "net")
    testing = SegmentationConfig(scales=(0.5, 1.0), crf_iterations=iterations)
    inputs = {"deeplabv2": (tmp_path / "net",)}
    predict(Job((sample,), classes, testing, tmp_path / "out", tmp_path, inputs=inputs, model=training.model))
    found = Predictor(tmp_path / "net", "deeplabv2", testing)(image)
    np.testing.assert_array_equal(found, read_label_map(tmp_path / "out" / "SegmentationClass" / "a.png"))
    assert found.shape == (48, 56)
    with pytest.raises(ValueError, match="expected RGB"):
        Predictor(tmp_path / "net", "deeplabv2", testing)(image[..., 0])
