"""The kernels agree with numbers recorded from the authors' code."""

import json

import numpy as np
import pytest
import torch

from kernels.affinity import boundary_to_affinity, paths
from kernels.crf import label_marginals, refine_labels
from kernels.displacement import find_centroids, instance_map
from kernels.random_walk import propagate
from models.losses import pair_losses

pytestmark = pytest.mark.oracles
BACKENDS = ["torch", "numba"]


@pytest.fixture
def recorded(oracles):
    """Load one oracle's arrays by its name."""

    def load(name):
        with np.load(oracles / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return load


@pytest.mark.parametrize("radius", [5, 10])
def test_paths(oracles, radius):
    entries = json.loads((oracles / f"paths_r{radius}.json").read_text())["paths"]
    expected = {tuple(entry["dst"]): set(map(tuple, entry["path"])) for entry in entries}
    found = paths(radius)
    assert {offset: set(path) for offset, path in found.items()} == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_affinities(recorded, backend):
    oracle = recorded("affinity_r5")
    height, width = oracle["edge"].shape
    affinity = boundary_to_affinity(torch.from_numpy(oracle["edge"]), 5, backend=backend)
    expected = oracle["affinity"]
    np.testing.assert_allclose(affinity, expected[:, :height, 1 : width + 1], rtol=0, atol=1e-6)
    # The rest of the recorded window is padding: a source outside the map has no affinity to anything.
    assert expected.sum() == expected[:, :height, 1 : width + 1].sum()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("beta", "steps"), [(10, 256), (10, 16), (6, 64)])
def test_random_walk(recorded, backend, beta, steps):
    oracle = recorded("random_walk_r5")
    scores, boundary = torch.from_numpy(oracle["cam"]), torch.from_numpy(oracle["edge"])
    walked = propagate(scores, boundary, radius=5, beta=beta, steps=steps, backend=backend)
    expected = oracle[f"walk_beta{beta}_t{steps}"]
    np.testing.assert_allclose(walked, expected, rtol=0, atol=1e-4 * expected.max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("iterations", [100, 300])
def test_centroids(recorded, backend, iterations):
    oracle = recorded("centroids")
    found = find_centroids(torch.from_numpy(oracle["displacement"]), iterations, backend=backend)
    np.testing.assert_array_equal(found, oracle[f"centroids_{iterations}"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_instances(recorded, backend):
    oracle = recorded("centroids")
    ids = instance_map(torch.from_numpy(oracle["displacement"]), backend=backend).numpy()
    found = {(ids == i).tobytes() for i in range(ids.max() + 1)}
    assert found == {mask.tobytes() for mask in oracle["instance_masks"]}


@pytest.mark.parametrize("backend", BACKENDS)
def test_pair_losses(recorded, backend):
    oracle = recorded("pair_losses_r10")
    logits = torch.from_numpy(oracle["boundary_logits"]).requires_grad_()
    displacement = torch.from_numpy(oracle["displacement"]).requires_grad_()
    labels = torch.from_numpy(oracle["label"])[None]
    losses = pair_losses(logits, displacement, labels, radius=10, backend=backend)
    losses.total.backward()
    for field in ("bg_affinity", "fg_affinity", "neg_affinity", "fg_displacement", "bg_displacement", "total"):
        assert getattr(losses, field).item() == pytest.approx(float(oracle[field]), rel=1e-5), field
    assert [losses.num_bg, losses.num_fg, losses.num_neg] == oracle["pairs"].tolist()
    for leaf, name in ((logits, "grad_boundary_logits"), (displacement, "grad_displacement")):
        # The reference added in another order, in single precision: 1e-5 of the largest entry and of each entry.
        np.testing.assert_allclose(leaf.grad, oracle[name], rtol=1e-5, atol=2e-5 * abs(oracle[name]).max())


@pytest.mark.parametrize("iterations", [1, 5, 10])
def test_dense_crf_labels(recorded, iterations):
    oracle = recorded("dense_crf")
    refined = refine_labels(oracle["image"], oracle["initial_labels"], int(oracle["n_labels"]), iterations=iterations)
    assert (refined == oracle[f"labels_t{iterations}"]).mean() >= 0.995


def test_dense_crf_marginals(recorded):
    oracle = recorded("dense_crf")
    marginals = label_marginals(oracle["image"], oracle["initial_labels"], int(oracle["n_labels"]), 10, 0.7)
    np.testing.assert_allclose(marginals, oracle["marginals_t10"], rtol=0, atol=1e-4)
