"""AffinityNet and its losses, against loops over pairs."""

import math

import pytest
import torch

from kernels.affinity import offsets
from models.affinitynet.losses import affinity_losses
from models.affinitynet.network import AffinityNet
from models.backbones.base import build_backbone


def brute_losses(affinity, labels, radius):
    """Eq. 7 to 10 of AffinityNet as sums over pairs, one after another; a quarter of Eq. 10."""
    costs = {"bg": [], "fg": [], "neg": []}
    for b, _ in enumerate(labels):
        for k, (dy, dx) in enumerate(offsets(radius).tolist()):
            for y in range(labels.shape[1]):
                for x in range(labels.shape[2]):
                    if y + dy >= labels.shape[1] or not 0 <= x + dx < labels.shape[2]:
                        continue
                    one, other = int(labels[b, y, x]), int(labels[b, y + dy, x + dx])
                    if 255 not in (one, other):
                        kind = "neg" if one != other else "fg" if one else "bg"
                        value = float(affinity[b, k, y, x])
                        costs[kind].append(-math.log((1 - value if kind == "neg" else value) + 1e-5))
    bg, fg, neg = (sum(found) / len(found) if found else 0.0 for found in costs.values())
    return [bg, fg, neg, (fg + bg + 2 * neg) / 4], [len(found) for found in costs.values()]


@pytest.mark.parametrize(("shape", "radius"), [((2, 7, 9), 5), ((1, 1, 8), 3), ((3, 4, 4), 2)])
@pytest.mark.parametrize("values", [(0, 1, 2, 255), (0, 300), (255,), (3,)])
def test_affinity_losses_are_means_over_the_pairs_of_the_batch(shape, radius, values):
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor(values)[torch.randint(len(values), shape, generator=generator)]
    affinity = torch.rand(shape[0], len(offsets(radius)), *shape[1:], generator=generator, dtype=torch.float64)
    losses = affinity_losses(affinity, labels, radius)
    wanted, counts = brute_losses(affinity, labels, radius)
    torch.testing.assert_close(list(map(float, losses[:4])), wanted, rtol=1e-5, atol=1e-5)
    assert list(map(int, losses[4:])) == counts


def test_affinities_of_another_radius_than_the_losses_are_refused():
    with pytest.raises(ValueError, match=r"affinity must be \[1, 34, 8, 8\] at radius 5, got \[1, 2, 8, 8\]"):
        affinity_losses(torch.rand(1, 2, 8, 8), torch.zeros(1, 8, 8), 5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_affinities_of_an_image_of_any_size_lie_on_the_grid_of_stride_8(name):
    net = AffinityNet(build_backbone(name)).eval()
    assert net(torch.randn(2, 3, 32, 48)).shape == (2, 448, 4, 6)
    affinity = net.infer(torch.randn(1, 3, 37, 61), 5)
    assert affinity.shape == (1, 34, 5, 8)
    assert 0 <= float(affinity.min()) <= float(affinity.max()) <= 1
    assert not affinity[:, :, -1][:, offsets(5)[:, 0] > 0].any()


def test_gradients_reach_the_backbone_where_it_is_trained_and_its_norms_stay():
    for trains in (False, True):
        net = AffinityNet(build_backbone("resnet18"), train_backbone=trains).train()
        norms = {name: value.clone() for name, value in net.named_buffers()}
        net(torch.randn(1, 3, 32, 32)).sum().backward()
        gradients = [parameter.grad is not None for parameter in net.backbone.parameters()]
        assert any(gradients) == trains
        assert all(torch.equal(value, norms[name]) for name, value in net.named_buffers())
