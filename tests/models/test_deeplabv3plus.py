"""DeepLab v3+ and its saliency branch, the joint loss, DANet's attention: the papers' sizes and equations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.backbones.base import Backbone
from models.danet import ChannelAttention, DANet, PositionAttention
from models.deeplabv3plus import DeepLabV3Plus
from models.saliency import Maps, SaliencyDeepLabV3Plus, UncertaintyLoss
from tasks.networks.stages.saliency import task_losses

EVERY = (DeepLabV3Plus, SaliencyDeepLabV3Plus)


@pytest.mark.parametrize(("dsc", "parameters", "gmacs"), [(False, 59.34e6, 177.78), (True, 46.81e6, 152.13)])
def test_parameters_and_operations_are_the_papers(dsc: bool, parameters: float, gmacs: float) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        net = DeepLabV3Plus(Backbone("resnet101", dilated=True), 19, dsc=dsc).eval()
        net(torch.empty(1, 3, 512, 1024))
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(parameters, rel=1e-3)
    # The paper counts a multiply-add as one.
    assert counter.get_total_flops() / 2 / 1e9 == pytest.approx(gmacs, rel=0.02)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "densenet121"])
def test_logits_have_the_images_size_and_one_image_can_be_learned_from(backbone: str) -> None:
    torch.manual_seed(0)
    for build in EVERY:
        net = build(Backbone(backbone, dilated=True), 5)
        assert net.eval()(torch.randn(1, 3, 67, 91)).shape == (1, 5, 67, 91)
        learned = net.train()(torch.randn(1, 3, 67, 91))
        assert (learned.classes if isinstance(learned, Maps) else learned).shape == (1, 5, 67, 91)
    net = DANet(Backbone(backbone, output_stride=8), 5)
    assert net.train()(torch.randn(1, 3, 67, 91)).shape == (1, 5, 67, 91)


def test_other_output_strides_are_refused() -> None:
    for build in EVERY:
        with pytest.raises(ValueError, match="output stride 16, got 8"):
            build(Backbone("resnet18", output_stride=8), 5)
    with pytest.raises(ValueError, match="output stride 8, got 16"):
        DANet(Backbone("resnet18"), 5)


def test_saliency_is_the_weighted_sum_of_the_classes_maps() -> None:
    torch.manual_seed(0)
    net = SaliencyDeepLabV3Plus(Backbone("resnet18", dilated=True), 4).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = net.both(x)
        levels = net.backbone(x)
        mid = net.aspp(levels[-1])
        weights = torch.sigmoid(torch.stack([net.class_maps(mid)[:, c].mean((1, 2)) for c in range(4)], dim=1))
        classes = net.saliency_decoder(mid, levels[1])
        expected = sum(weights[:, c, None, None] * classes[:, c] for c in range(4))
        assert isinstance(expected, torch.Tensor)
        expected = F.interpolate(expected[:, None], (64, 96), mode="bilinear", align_corners=False)[:, 0]
        torch.testing.assert_close(maps.saliency, expected)
        torch.testing.assert_close(maps.classes, net(x))


def test_a_tasks_loss_leaves_the_other_tasks_own_layers_alone() -> None:
    torch.manual_seed(0)
    net = SaliencyDeepLabV3Plus(Backbone("resnet18", dilated=True), 4).eval()
    x = torch.randn(2, 3, 64, 64)
    net.both(x).classes.square().mean().backward()
    own = (*net.saliency_decoder.parameters(), *net.class_maps.parameters())
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in own)
    before = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    maps = net.both(x)
    # Switched off: it has no data, and its loss counts for nothing.
    loss = UncertaintyLoss()
    loss(torch.stack([maps.classes.square().mean(), maps.saliency.sum()]), torch.tensor([1.0, 0.0])).backward()
    for name, gradient in before.items():
        found = net.get_parameter(name).grad
        assert found is not None
        torch.testing.assert_close(found, gradient, rtol=0, atol=1e-6)
    assert loss.log_variance.grad is not None
    assert loss.log_variance.grad[1] == 0


def test_saliency_from_other_images_leaves_segmentations_gradients_as_they_are() -> None:
    torch.manual_seed(0)
    net = SaliencyDeepLabV3Plus(Backbone("resnet18", dilated=True), 4, task_weights=(1.0, 1.0)).train()
    scenes, objects = torch.randn(2, 3, 64, 64), 3 + torch.randn(3, 3, 64, 64)

    def gradients(salient: torch.Tensor | None, *, of: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        net.zero_grad()
        maps = net(scenes, salient)
        losses = {"segmentation": maps.classes.square().mean(), "saliency": maps.saliency.square().mean()}
        sum(losses.values() if of == "both" else [losses[of]], torch.zeros(())).backward()
        return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}

    # In training, with the batch norms of all layers at work.
    alone, together = gradients(None, of="segmentation"), gradients(objects, of="both")
    branch = [name for name in alone if name.startswith("decoder.")]
    assert len(branch) == len(list(net.decoder.parameters()))
    for name in branch:
        torch.testing.assert_close(together[name], alone[name], rtol=0, atol=1e-6)
    of_objects = gradients(objects, of="saliency")
    assert not any(name.startswith("decoder.") for name in of_objects)
    for name in of_objects:
        if name.startswith(("saliency_decoder.", "class_maps.")):
            torch.testing.assert_close(together[name], of_objects[name], rtol=0, atol=1e-6)
    assert net(scenes, objects).saliency.shape == (3, 64, 64)


def test_the_joint_loss_is_equation_8() -> None:
    loss = UncertaintyLoss()
    sigmas = (0.5, 2.0)
    loss.log_variance.data = torch.tensor([2 * math.log(sigma) for sigma in sigmas])
    torch.testing.assert_close(loss.sigma, torch.tensor(sigmas))
    # Constant logits: of three classes, the right one 1 above the others, and salient with a logit of 2, half wrongly.
    maps = Maps(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 4, 6), torch.full((1, 4, 6), 2.0))
    masks = torch.ones(1, 4, 6, dtype=torch.long)
    masks[:, :2] = 0
    tasks = (math.log(math.e + 2) - 1, (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2)
    expected = sum(one / sigma**2 + math.log(sigma) for one, sigma in zip(tasks, sigmas, strict=True))
    losses, shares = task_losses(maps, torch.zeros(1, 4, 6, dtype=torch.long), masks, torch.ones(256))
    assert loss(losses, shares).item() == pytest.approx(expected, rel=1e-6)


def test_the_noisy_tasks_sigma_ends_larger() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 2, generator=generator)
    clean = (x[:, 0] > 0).float()
    noisy = torch.where(torch.rand(512, generator=generator) < 0.4, 1 - clean, clean)
    net, loss = nn.Linear(2, 2), UncertaintyLoss()
    optimizer = torch.optim.Adam([*net.parameters(), *loss.parameters()], lr=0.05)
    for _ in range(400):
        logits = net(x)
        tasks = [F.binary_cross_entropy_with_logits(logits[:, k], y) for k, y in enumerate((clean, noisy))]
        optimizer.zero_grad()
        loss(torch.stack(tasks)).backward()
        optimizer.step()
    assert loss.sigma[1] > 2 * loss.sigma[0]


@pytest.mark.parametrize("start", [-1e30, -1e9, 1e8, 1e30])
def test_sigmas_that_start_far_out_are_at_their_limits_and_pulled_back(start: float) -> None:
    loss = UncertaintyLoss(start=start)
    limit = math.copysign(loss.LIMIT, start)
    torch.testing.assert_close(loss.sigma, torch.full((2,), math.exp(limit / 2)))
    loss(torch.tensor([0.1, 0.2])).backward()
    assert loss.log_variance.grad is not None
    assert (loss.log_variance.grad.sign() == math.copysign(1, start)).all()


@pytest.mark.parametrize("start", [-1000.0, -30.0, 30.0, 1000.0])
def test_the_loss_stays_finite_from_any_start_and_finds_its_way_back(start: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 2)
    # One task can be learned, the other is half noise.
    truth = torch.stack([x[:, 0] > 0, torch.rand(64) < 0.5], dim=1).float()
    net, loss = nn.Linear(2, 2), UncertaintyLoss(start=start)
    optimizer = torch.optim.Adam([{"params": net.parameters(), "lr": 0.01}, {"params": loss.parameters(), "lr": 0.5}])
    for _ in range(10_000):
        optimizer.zero_grad()
        losses = F.binary_cross_entropy_with_logits(net(x), truth, reduction="none").mean(0)
        value = loss(losses)
        assert value.isfinite()
        value.backward()
        optimizer.step()
    assert losses[1].item() == pytest.approx(math.log(2), rel=0.1)
    # The minimum: sigma^2 = 2 L.
    torch.testing.assert_close(loss.sigma**2, 2 * losses, rtol=0.5, atol=math.exp(-loss.LIMIT))


def test_channels_attend_to_each_other_in_single_precision_under_autocast() -> None:
    torch.manual_seed(0)
    # As behind a norm and a rectifier: sums over 1,600 positions, whose exponentials are taken.
    x = torch.randn(1, 64, 40, 40).relu().bfloat16()
    channel = ChannelAttention()
    channel.beta.data.fill_(1.0)
    exact = channel.double()(x.double()) - x.double()
    with torch.autocast("cpu", torch.bfloat16):
        found = channel.float()(x).double() - x.double()
    # What is left is the rounding of the maps themselves.
    assert (found - exact).abs().max() < 0.02 * exact.abs().max()


def test_each_stream_of_danet_is_classified_in_training_where_it_is_asked_for() -> None:
    torch.manual_seed(0)
    net = DANet(Backbone("resnet18", output_stride=8), 5, stream_losses=True)
    net.dropout.p = 0.0
    net.backbone.eval()
    x = torch.randn(2, 3, 64, 80)
    outputs = net.train()(x)
    assert outputs.shape == (3, 2, 5, 64, 80)
    features = net.backbone(x)[-1]
    streams = [net.position(features), net.channel(features)]
    layers = (net.classifier, *net.stream_classifiers)
    for output, classifier, maps in zip(outputs, layers, (sum(streams), *streams), strict=True):
        expected = F.interpolate(classifier(maps), (64, 80), mode="bilinear", align_corners=False)
        torch.testing.assert_close(output, expected)
    assert net.eval()(x).shape == (2, 5, 64, 80)


def test_attention_is_the_explicit_softmax() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 64, 13, 11)
    position, channel = PositionAttention(64), ChannelAttention()
    position.alpha.data.fill_(0.7)
    channel.beta.data.fill_(0.3)
    query, key, value = (conv(x).flatten(2) for conv in (position.query, position.key, position.value))
    weights = (query.transpose(1, 2) @ key).softmax(-1)
    expected = 0.7 * (value @ weights.transpose(1, 2)).view_as(x) + x
    torch.testing.assert_close(position(x), expected, rtol=0, atol=1e-5)
    maps = x.flatten(2)
    energy = maps @ maps.transpose(1, 2)
    expected = 0.3 * ((-energy).softmax(-1) @ maps).view_as(x) + x
    torch.testing.assert_close(channel(x), expected, rtol=0, atol=1e-5)
