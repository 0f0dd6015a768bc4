"""The classifiers of cells: what teaches a fold, what an image may be, and features that lie where the network saw."""

import pytest
import torch
from torch.nn import functional as F

from models.backbones.base import build_backbone
from models.pixels import PixelClassifier, cell_features


def filled(folds: int = 3, values: int = 4, channels: int = 5) -> PixelClassifier:
    torch.manual_seed(0)
    net = PixelClassifier(folds, values, channels)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    net.mean.normal_()
    net.std.uniform_(0.5, 2)
    return net.eval()


def test_the_loss_of_a_fold_is_that_of_the_cells_that_teach_it() -> None:
    net, features, values = filled(), torch.randn(40, 5), torch.randint(0, 4, (40,))
    taught, others = torch.rand(2, 3, 40) > 0.3
    x = (features - net.mean) / net.std
    expected = sum(
        F.cross_entropy(x[rows] @ net.weight[fold].T + net.bias[fold], values[rows]) for fold, rows in enumerate(taught)
    )
    for fold, rows in enumerate(others):
        logits = x @ net.object_weight[fold] + net.object_bias[fold]
        for kind in (values > 0, values == 0):
            chosen = rows & kind
            expected += (
                F.binary_cross_entropy_with_logits(logits[chosen], kind[chosen] * (values[chosen] > 0) * 1.0) / 2
            )
    torch.testing.assert_close(net.loss(features, values, taught, others), torch.as_tensor(expected))


def test_a_fold_that_no_cell_teaches_adds_nothing_to_the_loss() -> None:
    net, features, values = filled(), torch.randn(7, 5), torch.zeros(7, dtype=torch.long)
    taught = torch.tensor([[True] * 7, [True] * 7, [False] * 7])
    alone = net.loss(features, values, taught, taught)
    assert alone.isfinite()
    alone.backward()
    assert net.weight.grad is not None
    assert not net.weight.grad[2].any()
    assert net.object_weight.grad is not None
    assert not net.object_weight.grad[2].any()


def test_probabilities_are_those_among_the_images_classes_and_background() -> None:
    net, features = filled(), torch.randn(5, 6, 7)
    found = net.probabilities(features, 1, [1, 3])
    logits = net(features.flatten(1).T)[1][:, [0, 1, 3]]
    torch.testing.assert_close(found, logits.softmax(1)[:, 1:].T.reshape(2, 6, 7))
    assert (found.sum(0) < 1).all()


def test_the_probability_of_an_object_is_the_fold_s() -> None:
    net, features = filled(), torch.randn(5, 6, 7)
    x = (features.permute(1, 2, 0) - net.mean) / net.std
    expected = (x @ net.object_weight[1] + net.object_bias[1]).sigmoid()
    torch.testing.assert_close(net.object_probability(features, 1), expected[None])


def test_a_classifier_of_an_earlier_version_knows_no_objects() -> None:
    state = {name: value for name, value in filled().state_dict().items() if not name.startswith("object")}
    net = PixelClassifier.from_state(state)
    assert not net.object_images.any()
    torch.testing.assert_close(net.weight.data, state["weight"])


def test_a_state_brings_its_folds_classes_and_features_along() -> None:
    net = filled(folds=2, values=3, channels=4)
    other = PixelClassifier.from_state(net.state_dict())
    features = torch.randn(9, 4)
    torch.testing.assert_close(other(features), net(features))


@pytest.mark.parametrize("size", [(64, 80), (65, 79), (1, 200), (33, 17)])
def test_features_are_levels_3_to_5_on_the_grid_of_stride_8(size: tuple[int, int]) -> None:
    backbone = build_backbone("resnet18").eval()
    pixels = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    features = cell_features(backbone, pixels)
    assert features.shape == (2, sum(backbone.channels[2:]), -(-size[0] // 8), -(-size[1] // 8))
    padded = F.pad(backbone.normalize(pixels), (0, -size[1] % 16, 0, -size[0] % 16))
    third = backbone(padded)[2]
    rows, columns = features.shape[2:]
    torch.testing.assert_close(features[:, : third.shape[1]], third[:, :, :rows, :columns])
