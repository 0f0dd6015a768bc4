"""The dense CRF: what it must move, what it must leave, what it refuses."""

import logging
import re

import numpy as np
import pytest
import torch
from numba import njit

from kernels import backend as backends
from kernels import crf
from kernels.crf import (
    cpu,
    geometry,
    label_marginals,
    lattice,
    marginals_of_many,
    refine_batch,
    refine_labels,
    refine_many,
    refine_probabilities,
)
from kernels.crf.settings import BILATERAL, GAUSSIAN

BACKENDS = ["numba", "torch", "pydensecrf"]


def photograph(height, width, seed=0):
    """Make smooth shading, a few objects with texture, and noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([90 + 60 * np.sin(y / 50 + c) + 40 * np.cos(x / (30 + 20 * c)) for c in range(3)], -1)
    for _ in range(6):
        cy, cx = generator.uniform(0, (height, width))
        ry, rx = generator.uniform(0.1, 0.3, 2) * (height, width) + 1
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        image[inside] = generator.uniform(0, 255, 3) + 25 * np.sin((x + y)[inside] / generator.uniform(1, 5))[:, None]
    return (image + generator.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


def blotches(height, width, num_labels, seed=0):
    """Make a label map of blotches with single wrong pixels in them."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    labels = (np.sin(y / 23 + seed) + np.cos(x / 31) > 0.3) * 1 + (np.sin((x + y) / 40) > 0.7) * 1
    noise = generator.integers(0, num_labels, labels.shape)
    return np.where(generator.random(labels.shape) < 0.05, noise, labels % num_labels)


def two_tone(height=40, width=60, edge=30):
    image = np.full((height, width, 3), 40, np.uint8)
    image[:, edge:] = (200, 120, 60)
    return image


def labels_up_to(column, height=40, width=60):
    labels = np.zeros((height, width), np.uint8)
    labels[:, column:] = 1
    return labels


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_border_a_few_pixels_off_moves_to_the_edge_of_the_image(backend):
    refined = refine_labels(two_tone(edge=30), labels_up_to(34), 2, backend=backend)
    assert np.array_equal(refined, labels_up_to(30))


def test_no_iterations_and_a_map_of_one_value_change_nothing():
    image = two_tone()
    labels = labels_up_to(34)
    assert np.array_equal(refine_labels(image, labels, 2, iterations=0), labels)
    for value, num_labels in ((0, 1), (2, 5)):
        constant = np.full((40, 60), value, np.int64)
        refined = refine_labels(image, constant, num_labels)
        assert np.array_equal(refined, constant)
        assert refined is not constant
    assert (label_marginals(image, constant, 5, 10, 0.7).argmax(0) == 2).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_marginals_are_distributions_that_follow_the_confidence(backend):
    image, labels = two_tone(), labels_up_to(34)
    for confidence in (0.6, 0.9):
        start = label_marginals(image, labels, 3, 0, confidence, backend=backend)
        np.testing.assert_allclose(start.sum(0), 1, atol=1e-5)
        np.testing.assert_allclose(start.max(0), confidence, atol=1e-5)
    assert (label_marginals(image, np.zeros_like(labels), 1, 3, 0.7, backend=backend) == 1).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_marginals_of_many_maps_are_those_of_each_and_their_labels_those_of_refine_many(backend):
    image, maps, counts = two_tone(), [labels_up_to(34), labels_up_to(20), np.zeros((40, 60), np.int64)], [2, 3, 4]
    found = marginals_of_many(image, maps, counts, 3, backend=backend)
    refined = refine_many(image, maps, counts, iterations=3, backend=backend)
    for marginals, labels, count, expected in zip(found, maps, counts, refined, strict=True):
        alone = label_marginals(image, labels, count, 3, 0.7, backend=backend)
        np.testing.assert_allclose(marginals, alone, atol=1e-6)
        assert np.array_equal(marginals.argmax(0), expected)
    assert marginals_of_many(image, [], [], 3, backend=backend) == []


def test_labels_of_a_photograph_are_those_of_pydensecrf():
    image, labels = photograph(375, 500), blotches(375, 500, 3)
    ours, theirs = (refine_labels(image, labels, 3, backend=backend) for backend in ("numba", "pydensecrf"))
    assert (theirs != labels).mean() > 0.02
    assert (ours != theirs).mean() <= 0.0005


# Smaller than a simplex, one pixel wide, more than one block of pixels with a rest; a group of four labels and more.
SHAPES = [((1, 1), 2), ((1, 9), 3), ((200, 1), 2), ((2, 3), 7), ((37, 53), 4), ((64, 33), 10)]


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize(("shape", "num_labels"), SHAPES)
def test_marginals_are_those_of_pydensecrf(backend, shape, num_labels):
    image, labels = photograph(*shape), blotches(*shape, num_labels)
    # Iterations amplify what rounding leaves at pixels that are undecided.
    for iterations, tolerance in ((1, 2e-5), (10, 3e-4)):
        ours, theirs = (
            label_marginals(image, labels, num_labels, iterations, 0.7, backend=b) for b in (backend, "pydensecrf")
        )
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize(("shape", "num_labels"), SHAPES)
def test_refined_probabilities_are_those_of_pydensecrf(backend, shape, num_labels):
    image = photograph(*shape)
    logits = 2 * torch.randn(num_labels, *shape, generator=torch.Generator().manual_seed(1))
    probabilities = logits.softmax(0).numpy()
    # Nothing is certain for a CRF: with a probability of 0 an energy would be infinite.
    probabilities[0, 0, 0] = 0
    ours, theirs = (
        refine_probabilities(image, probabilities, iterations=1, backend=b) for b in (backend, "pydensecrf")
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)
    unchanged = refine_probabilities(image, torch.from_numpy(probabilities), iterations=0, backend=backend)
    np.testing.assert_allclose(unchanged, probabilities / probabilities.sum(0), rtol=0, atol=1e-5)


def test_probabilities_give_way_to_the_image_where_they_hesitate_and_hold_where_they_do_not():
    image = two_tone(edge=30)
    for doubt, expected in ((0.45, 30), (1e-12, 34)):
        one = np.where(labels_up_to(34) == 1, 1 - doubt, doubt).astype(np.float32)
        refined = refine_probabilities(image, np.stack([1 - one, one])).argmax(0)
        assert np.array_equal(refined, labels_up_to(expected)), doubt


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.ones((2, 40, 61), np.float32), "probabilities [L, H, W]"),
        (np.ones((40, 60), np.float32), "probabilities [L, H, W]"),
        (np.ones((2, 40, 60), np.uint8), "floats in [0, 1]"),
        (np.full((2, 40, 60), np.nan, np.float32), "floats in [0, 1]"),
        (np.full((2, 40, 60), 1.5, np.float32), "floats in [0, 1]"),
    ],
)
def test_probabilities_that_are_none_are_refused(probabilities, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        refine_probabilities(two_tone(), probabilities)


def test_numba_writes_all_that_it_allocates_and_grows_its_tables_for_an_image_of_noise(monkeypatch):
    # Nearly every pixel has a simplex of its own: 6 vertices a pixel, more than the tables first have room for.
    image = np.random.default_rng(0).integers(0, 256, (70, 131, 3), np.uint8)
    labels = blotches(70, 131, 3)
    plain = label_marginals(image, labels, 3, 3, 0.7, backend="torch")

    def poisoned(shape, dtype=float):
        return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 77, dtype)

    monkeypatch.setattr(np, "empty", poisoned)
    assert cpu.build(torch.from_numpy(image)).num_vertices > 4 * labels.size
    fast = label_marginals(image, labels, 3, 3, 0.7, backend="numba")
    np.testing.assert_allclose(fast, plain, rtol=0, atol=5e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_maps_of_an_image_are_refined_as_if_each_were_alone(backend, monkeypatch):
    image = photograph(40, 61)
    counts = [2, 5, 3, 4]
    maps = [blotches(40, 61, count, seed).astype(np.uint8) for seed, count in enumerate(counts)]
    maps[2] = torch.zeros(40, 61, dtype=torch.int16)
    alone = [refine_labels(image, each, count, backend=backend) for each, count in zip(maps, counts, strict=True)]
    for max_channels in (64, 7, 1):
        monkeypatch.setattr(crf, "MAX_CHANNELS", max_channels)
        together = refine_many(image, maps, counts, backend=backend)
        for one, other in zip(alone, together, strict=True):
            assert type(one) is type(other)
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
    assert refine_many(image, [], [], backend=backend) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_of_a_batch_are_refined_as_if_each_were_alone(backend):
    sizes, counts = [(20, 31), (1, 7), (13, 8)], [[2, 3], [], [4]]
    images = [photograph(*size) for size in sizes]
    maps = [[blotches(*size, count) for count in some] for size, some in zip(sizes, counts, strict=True)]
    batch = refine_batch(images, maps, counts, backend=backend)
    for image, some, numbers, found in zip(images, maps, counts, batch, strict=True):
        alone = refine_many(image, some, numbers, backend=backend)
        assert len(found) == len(alone)
        assert all(map(np.array_equal, found, alone))


def test_the_lattice_is_built_once_for_all_maps(monkeypatch):
    builds = []
    monkeypatch.setattr(cpu, "build", lambda image, build=cpu.build: builds.append(image) or build(image))
    monkeypatch.setattr(crf, "MAX_CHANNELS", 4)
    refine_many(photograph(20, 30), [blotches(20, 30, 2, seed) for seed in range(5)], [2] * 5, backend="numba")
    assert len(builds) == 1


def test_auto_is_numba_on_the_cpu_and_says_so_once(caplog):
    backends._log_choice.cache_clear()
    image, labels = two_tone(), labels_up_to(33)
    with caplog.at_level(logging.INFO, logger="kernels.backend"):
        automatic = [label_marginals(image, labels, 2, 2, 0.7) for _ in range(2)][1]
    assert [record.getMessage() for record in caplog.records] == ["crf: backend numba on cpu"]
    assert np.array_equal(automatic, label_marginals(image, labels, 2, 2, 0.7, backend="numba"))


@pytest.mark.parametrize("kernel", [GAUSSIAN, BILATERAL])
def test_a_pixel_lies_within_its_simplex_whose_corners_are_neighbours(kernel):
    points = lattice.features(torch.from_numpy(photograph(30, 41)), kernel)
    built = lattice.build(points)
    torch.testing.assert_close(built.barycentric.sum(1), torch.ones(len(points)))
    assert built.barycentric.min() > -1e-5
    for first, second in zip(built.corners.T, built.corners.roll(-1, 1).T, strict=True):
        assert (built.after[:, first] == second).any(0).all()
    rows, size = torch.arange(built.after.shape[1]), built.after.shape[1]
    for before, after in zip(built.before, built.after, strict=True):
        assert (before[after[after < size]] == rows[after < size]).all()


def test_the_lattice_filter_is_close_to_a_gaussian():
    image, labels = np.zeros((41, 41, 3), np.uint8), np.zeros((41, 41), np.int64)
    labels[20, 20] = 1
    # The unaries of one iteration are known, so the marginals' log odds give the messages away.
    start, after = (label_marginals(image, labels, 2, steps, 0.9, backend="torch") for steps in (0, 1))
    message = (np.log(after[1] / after[0]) - np.log(start[1] / start[0])).astype(np.float64)
    y, x = (np.mgrid[:41, :41] - 20).reshape(2, -1)
    squared = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    field = (start[1] - start[0]).ravel().astype(np.float64)
    expected = 0
    for kernel in (GAUSSIAN, BILATERAL):
        dense = np.exp(-squared / (2 * kernel.sxy**2))
        norm = 1 / np.sqrt(dense.sum(1))
        expected = expected + kernel.weight * norm * (dense @ (norm * field))
    # Furthest off in the corners, where half of the vertices around have no pixel and do not exist.
    np.testing.assert_allclose(message.ravel(), expected, rtol=0.12)
    assert np.abs(message.ravel() / expected - 1).mean() < 0.04


def test_keys_of_vertices_are_unique_and_steps_are_sums():
    for d in (2, 5):
        powers, steps, limit = geometry.packing(d)
        coordinates = np.random.default_rng(d).integers(-limit, limit + 1, (5000, d))
        coordinates = np.unique(np.concatenate([coordinates, coordinates[:, ::-1]]), axis=0)
        keys = (coordinates * powers[:d]).sum(1)
        assert len(np.unique(keys)) == len(coordinates)
        for axis in range(d + 1):
            moved = coordinates + 1 - (d + 1) * (np.arange(d) == axis)
            assert np.array_equal((moved * powers[:d]).sum(1), keys + steps[axis])
    geometry.check_extents([6000 / 50, 8000 / 50, 51, 51, 51])
    with pytest.raises(ValueError, match="too large for the lattice"):
        geometry.check_extents([100_000 / 50, 100_000 / 50, 51, 51, 51])


def test_the_exponential_is_as_exact_as_its_argument_in_single_precision():
    x = np.linspace(-40, 0, 10_001, dtype=np.float32)
    apply = njit(lambda x: [cpu._exp(each) for each in x])
    np.testing.assert_allclose(apply(x), np.exp(x.astype(np.float64)), rtol=5e-6)
    np.testing.assert_allclose(apply(x[-250:]), np.exp(x[-250:].astype(np.float64)), rtol=3e-7)
    assert 0 < apply(np.float32([-1000]))[0] < 1e-18


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_tensors_and_arrays_give_the_same_map_in_their_own_kind(dtype):
    image, labels = two_tone(), labels_up_to(33).astype(dtype)
    array = refine_labels(image, labels, 2)
    tensor = refine_labels(torch.from_numpy(image), torch.from_numpy(labels), 2)
    assert array.dtype == dtype
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.from_numpy(labels).dtype
    assert np.array_equal(array, tensor.numpy())


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_and_read_only_images_are_accepted(backend):
    image, labels = two_tone()[:, ::-1], labels_up_to(33)[:, ::-1]
    image.flags.writeable = False
    labels.flags.writeable = False
    copied = refine_labels(image.copy(), labels.copy(), 2, backend=backend)
    assert np.array_equal(refine_labels(image, labels, 2, backend=backend), copied)
    strided = torch.from_numpy(image.copy()).transpose(0, 1), torch.from_numpy(labels.copy()).T
    assert np.array_equal(refine_labels(*strided, 2, backend=backend).T, copied)


def test_what_cannot_be_refined_is_refused():
    image, labels = two_tone(), labels_up_to(30)
    with pytest.raises(ValueError, match="1 for 2 maps"):
        refine_many(image, [labels, labels], [2])
    with pytest.raises(ValueError, match="got 2 images, 1 and 1"):
        refine_batch([image, image], [[labels]], [[2]])
    with pytest.raises(ValueError, match="got 'gpu'"):
        refine_labels(image, np.zeros_like(labels), 2, backend="gpu")
    with pytest.raises(ValueError, match="got 'gpu'"):
        refine_labels(image, labels, 2, backend="gpu")
    with pytest.raises(ValueError, match=r"in \[0, 1\), got uint8 in \[0, 1\]"):
        refine_labels(image, labels, 1)
    with pytest.raises(ValueError, match="must be integers"):
        refine_labels(image, labels.astype(np.float32), 2)
    with pytest.raises(ValueError, match="must be uint8"):
        refine_labels(image.astype(np.float32), labels, 2)
    with pytest.raises(ValueError, match=r"\(40, 60, 3\) and \(40, 59\)"):
        refine_labels(image, labels[:, 1:], 2)
    for wrong in ({"confidence": 1.0}, {"confidence": 0.0}, {"iterations": -1}):
        with pytest.raises(ValueError, match="need iterations >= 0 and 0 < confidence < 1"):
            refine_labels(image, labels, 2, **wrong)
