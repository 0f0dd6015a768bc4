"""Two networks that share features: paths of either kind, their gradients, odd sizes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.backbones.base import Backbone
from models.cooperative import (
    DANET_STREAMS,
    DEEPLABV3PLUS_LAYERS,
    Connections,
    Cooperative,
    _Joint,
    _Tap,
    multi_layer,
    same_layer,
)
from models.danet import DANet, PositionAttention
from models.deeplabv3plus import DeepLabV3Plus
from models.inference import prepare_inference
from models.layers import SeparableConv2d
from models.segmenter import Segmenter

STREAMS = [layer for stream in DANET_STREAMS for layer in stream]
KINDS: dict[str, Connections] = {
    "deeplabv3plus, same layer": same_layer(DEEPLABV3PLUS_LAYERS),
    "deeplabv3plus, multi layer": multi_layer(DEEPLABV3PLUS_LAYERS),
    "danet, same layer": same_layer(STREAMS),
    "danet, multi layer": {name: layers for stream in DANET_STREAMS for name, layers in multi_layer(stream).items()},
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def network(kind: str) -> Segmenter:
    if kind.startswith("danet"):
        return DANet(Backbone("resnet18", output_stride=8), 5)
    return DeepLabV3Plus(Backbone("resnet18", dilated=True), 5)


def pair(kind: str, **options) -> Cooperative:
    torch.manual_seed(0)
    return Cooperative(network(kind), network(kind), KINDS[kind], **options)


@each_kind
def test_without_the_paths_weights_the_second_network_is_one_alone(kind: str) -> None:
    torch.manual_seed(0)
    first, second = network(kind), network(kind)
    alone = copy.deepcopy(second).eval()
    net = Cooperative(first, second, KINDS[kind]).eval()
    x = torch.randn(1, 3, 65, 81)
    with torch.no_grad():
        assert not torch.equal(net(x), alone(x))
        for name, parameter in net.second.named_parameters():
            if ".paths." in name:
                parameter.zero_()
        torch.testing.assert_close(net(x), alone(x))


@each_kind
def test_the_second_networks_loss_reaches_the_first_through_every_path(kind: str) -> None:
    net = pair(kind).train()
    x = torch.randn(2, 3, 64, 64)
    paths = [name for name, _ in net.second.named_parameters() if ".paths." in name]
    assert len(paths) == sum(map(len, KINDS[kind].values()))
    for only in paths:
        for name, parameter in net.second.named_parameters():
            if ".paths." in name:
                parameter.data.fill_(0.01 if name == only else 0)
        net.zero_grad()
        net(x)[1].square().mean().backward()
        reached = [p.grad for p in net.first.parameters() if p.grad is not None]
        assert any(gradient.abs().sum() > 0 for gradient in reached), only


@each_kind
def test_any_size_and_both_outputs_in_training(kind: str) -> None:
    net = pair(kind)
    for size in ((64, 64), (67, 91)):
        x = torch.randn(2, 3, *size)
        assert net.train()(x).shape == (2, 2, 5, *size)
        with torch.no_grad():
            assert net.eval()(x).shape == (2, 5, *size)
    net.train()(torch.randn(2, 3, 64, 64))
    # Nothing of an image is kept: a tensor with a history could not be copied.
    copy.deepcopy(net)
    assert all(tap.seen is None for tap in net.modules() if isinstance(tap, _Tap))


@each_kind
def test_what_is_made_ready_for_inference_is_the_same_network(kind: str) -> None:
    net = pair(kind).eval()
    x = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(prepare_inference(net)(x), expected, rtol=1e-3, atol=1e-4)


def test_the_prediction_is_the_second_networks_or_the_mean_of_both_probabilities() -> None:
    x = torch.randn(1, 3, 64, 64)
    second, mean = (pair("danet, same layer", prediction=which).eval() for which in ("second", "mean"))
    with torch.no_grad():
        outputs = [mean.first(x).softmax(1), second(x).softmax(1)]
        torch.testing.assert_close(mean(x).softmax(1), (outputs[0] + outputs[1]) / 2)


def test_a_joint_layer_is_one_over_both_networks_maps_laid_side_by_side() -> None:
    torch.manual_seed(0)
    own, other = torch.randn(2, 6, 9, 11), torch.randn(2, 6, 9, 11)
    for layer in (torch.nn.Conv2d(6, 4, 3, padding=1), SeparableConv2d(6, 4, 3)):
        tap = _Tap(copy.deepcopy(layer))
        joint = _Joint(layer, [tap])
        tap(other)
        (path,) = joint.paths
        if isinstance(layer, SeparableConv2d):
            whole = SeparableConv2d(12, 4, 3)
            assert isinstance(path, SeparableConv2d)
            whole[0].weight = torch.nn.Parameter(torch.cat([layer[0].weight, path[0].weight]))
            whole[1].weight = torch.nn.Parameter(torch.cat([layer[1].weight, path[1].weight], dim=1))
        else:
            whole = torch.nn.Conv2d(12, 4, 3, padding=1)
            whole.bias = layer.bias
            whole.weight = torch.nn.Parameter(torch.cat([layer.weight, path.weight], dim=1))  # pyright: ignore
        torch.testing.assert_close(joint(own), whole(torch.cat([own, other], dim=1)), rtol=0, atol=1e-5)


def test_maps_that_are_enlarged_go_through_a_path_of_single_pixels_first(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tap = _Tap(torch.nn.Conv2d(32, 8, 1))
    joint = _Joint(torch.nn.Conv2d(6, 4, 1), [tap])
    small, x = torch.randn(2, 32, 5, 7), torch.randn(2, 6, 20, 27)
    tap(small)
    resized = F.interpolate(small, (20, 27), mode="bilinear", align_corners=False)
    expected = joint.layer(x) + joint.paths[0](resized)
    seen = []
    interpolate = F.interpolate
    monkeypatch.setattr(
        F, "interpolate", lambda maps, *a, **b: seen.append(maps.shape[1]) or interpolate(maps, *a, **b)
    )
    torch.testing.assert_close(joint(x), expected, rtol=0, atol=1e-5)
    assert seen == [4]


def test_an_ensemble_of_which_the_second_counts_runs_the_second_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Cooperative(network("danet"), network("danet"), {}, prediction="second").eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = net.second(x)
        monkeypatch.setattr(net.first, "forward", lambda x: pytest.fail("the first network was run"))
        torch.testing.assert_close(net(x), expected)


@each_kind
def test_of_the_first_network_no_logits_are_enlarged_where_the_second_counts(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = pair(kind).eval()
    x = torch.randn(1, 3, 64, 80)
    enlarged = []
    interpolate = F.interpolate
    monkeypatch.setattr(
        F, "interpolate", lambda maps, size, **more: enlarged.append(tuple(size)) or interpolate(maps, size, **more)
    )
    with torch.no_grad():
        net(x)
    assert enlarged.count((64, 80)) == 1


def test_networks_of_separable_convolutions_share_features_and_a_decoder_has_fewer_parameters() -> None:
    torch.manual_seed(0)
    first, second = (DeepLabV3Plus(Backbone("resnet18", dilated=True), 5, separable_decoder=True) for _ in range(2))
    plain = sum(parameter.numel() for parameter in network("deeplabv3plus").parameters())
    # Of 304 and of 256 maps: 3 x 3 of each map by itself, and 256 of all of them.
    assert sum(parameter.numel() for parameter in first.parameters()) == plain - (304 + 256) * (9 * 256 - 256 - 9)
    net = Cooperative(first, second, multi_layer(DEEPLABV3PLUS_LAYERS)).train()
    outputs = net(torch.randn(2, 3, 64, 64))
    assert outputs.shape == (2, 2, 5, 64, 64)
    outputs[1].square().mean().backward()
    paths = [parameter for name, parameter in net.second.named_parameters() if ".paths." in name]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in paths)


def test_all_outputs_of_both_networks_are_learned() -> None:
    torch.manual_seed(0)
    nets = [DANet(Backbone("resnet18", output_stride=8), 5, stream_losses=True) for _ in range(2)]
    net = Cooperative(*nets, same_layer(STREAMS)).train()
    x = torch.randn(2, 3, 64, 64)
    assert net(x).shape == (6, 2, 5, 64, 64)
    assert net.eval()(x).shape == (2, 5, 64, 64)


def test_layers_that_cannot_be_connected_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has no layer 'decoder\.nowhere'"):
        Cooperative(network("d"), network("d"), {"decoder.nowhere": ("decoder.classifier",)})
    with pytest.raises(ValueError, match="expected a convolution with one group, found Sequential"):
        Cooperative(network("d"), network("d"), {"decoder.fuse": ("decoder.classifier",)})


ODD_CHANNELS = [24, 13, 110, 104, 511]


@pytest.mark.parametrize("channels", ODD_CHANNELS)
def test_position_attention_is_its_definition_for_any_number_of_channels(channels: int) -> None:
    torch.manual_seed(0)
    layer, x = PositionAttention(channels).eval(), torch.rand(2, channels, 3, 5)
    layer.alpha.data.fill_(0.7)
    query, key, value = (conv(x).flatten(2) for conv in (layer.query, layer.key, layer.value))
    weights = (query.transpose(1, 2) @ key).softmax(dim=2)
    wanted = 0.7 * (value @ weights.transpose(1, 2)).view_as(x) + x
    assert torch.allclose(layer(x), wanted, atol=1e-5)


@pytest.mark.parametrize("channels", ODD_CHANNELS)
def test_position_attention_has_no_matrix_of_all_pairs_of_positions(channels: int) -> None:
    torch.manual_seed(0)
    layer, x = PositionAttention(channels), torch.rand(1, channels, 32, 32, requires_grad=True)
    # Without a fused form torch would raise here.
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        fused = layer(x)
    fused.sum().backward()
    pairs = (32 * 32) ** 2 * x.element_size()
    with torch.profiler.profile(profile_memory=True) as profiled:
        layer(x).sum().backward()
    assert max(event.self_cpu_memory_usage for event in profiled.events() or ()) < pairs


def test_queries_of_any_width_are_widened_with_zeros_that_change_nothing() -> None:
    torch.manual_seed(0)
    layer, x = PositionAttention(110).double(), torch.rand(1, 110, 5, 7, dtype=torch.float64)
    layer.alpha.data.fill_(0.7)
    query, key, value = (conv(x).flatten(2) for conv in (layer.query, layer.key, layer.value))
    wanted = 0.7 * (value @ (query.mT @ key).softmax(2).mT).view_as(x) + x
    # With a scale of the widened width the two would differ in the first digits.
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-12)
    assert (layer.query.out_channels, layer.key.out_channels) == (13, 13)
