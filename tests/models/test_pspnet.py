"""PSPNet: its pooling, its auxiliary classifier, its export."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from models.backbones import BACKBONES
from models.backbones.base import Backbone, BackboneChoice
from models.inference import prepare_inference
from models.pspnet import BINS, PSPNet, PyramidPooling, average_bins
from tasks.networks import NETWORKS
from tasks.networks.export import TOLERANCE, export_onnx
from tasks.networks.stages.segmentation import summed_cross_entropy


@pytest.mark.parametrize("size", [(1, 1), (6, 12), (5, 7), (13, 60)])
def test_means_over_bins_are_those_of_adaptive_pooling(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    for num_bins in BINS:
        down, right = (average_bins(side, num_bins, x) for side in size)
        torch.testing.assert_close(down @ x @ right.T, F.adaptive_avg_pool2d(x, num_bins))


def test_a_pyramid_keeps_the_features_and_adds_as_many_pooled_channels() -> None:
    pooling = PyramidPooling(16)
    x = torch.randn(1, 16, 9, 11)
    found = pooling(x)
    assert found.shape == (1, pooling.out_channels, 9, 11) == (1, 32, 9, 11)
    assert torch.equal(found[:, :16], x)
    # The mean over the whole image is the same everywhere.
    assert torch.allclose(found[:, 16:20], found[:, 16:20, :1, :1].expand(-1, -1, 9, 11))


@pytest.mark.parametrize("name", BACKBONES)
def test_it_is_built_on_every_backbone(name: str) -> None:
    with torch.device("meta"):
        net = NETWORKS["pspnet"].build(5, BackboneChoice(name)).eval()
        assert net(torch.empty(1, 3, 65, 98)).shape == (1, 5, 65, 98)


def test_the_auxiliary_classifier_is_of_training_alone_and_counts_its_weight() -> None:
    torch.manual_seed(0)
    net = PSPNet(Backbone("resnet18", output_stride=8), 3, auxiliary_weight=0.4)
    x, labels = torch.randn(1, 3, 64, 64), torch.randint(3, (1, 64, 64))
    assert net.eval()(x).shape == (1, 3, 64, 64)
    logits = net.train()(x)
    assert logits.shape == (2, 1, 3, 64, 64)
    weights = torch.ones(3)
    main, auxiliary = (summed_cross_entropy(one, labels, weights) for one in logits)
    together = summed_cross_entropy(logits, labels, weights, net.output_weights)
    assert float(together) == pytest.approx(float(main + 0.4 * auxiliary), rel=1e-6)
    alone = PSPNet(Backbone("resnet18", output_stride=8), 3, auxiliary_weight=0).train()
    assert alone(x).shape == (1, 3, 64, 64)
    assert alone.output_weights is None


def test_another_output_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="PSPNet needs a backbone at output stride 8, got 16"):
        PSPNet(Backbone("resnet18"), 3)


def test_it_is_exported_with_pooling_for_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = NETWORKS["pspnet"].build(4, BackboneChoice("resnet18"))
    assert max(export_onnx(net, tmp_path / "net.onnx")["errors"].values()) <= TOLERANCE


def test_what_is_made_ready_for_inference_is_the_same_network() -> None:
    torch.manual_seed(0)
    net = PSPNet(Backbone("resnet18", output_stride=8), 3).eval()
    x = torch.randn(1, 3, 50, 71)
    with torch.no_grad():
        expected = net(x)
        found = prepare_inference(net)(x)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
