"""Batch norm of a network in training: kept as it is, of all processes' images, or computed anew over a set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tasks.training.group import Group

# Of one process's images or of all processes'.
_BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


def freeze_norms(net: nn.Module, *, scale: bool = True) -> None:
    """Keep every batch norm at its statistics, and its scale and shift as they are unless `scale` is False."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            module.requires_grad_(not scale)


def synchronize_norms(net: nn.Module, device: str, *, always_busy: bool = False) -> nn.Module:
    """Return the network with batch norms whose statistics are those of all processes' images together.

    A process that is alone keeps the network as it is.

    Args:
        always_busy: Every process has images of its own in all parts of all steps (`Group.is_always_busy`): on a GPU
            torch's layer is taken then, which is faster and counts every image that it sees.
    """
    if not dist.is_initialized():
        return net
    if always_busy and device != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for parent in net.modules():
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SharedBatchNorm.of(child))
    return net


@torch.no_grad()
def recompute_norms(net: nn.Module, batches: Iterable[Callable[[], object]], group: Group) -> None:
    """Set the statistics of every batch norm to their means over batches, and leave the network in evaluation mode.

    The statistics of a batch are its own, also where batch norm is of all processes' images: so they do not depend on
    the number of processes.

    Args:
        batches: Each runs the network on one batch; of several processes each has its own, however many.
        group: The processes.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.forward = partial(nn.BatchNorm2d.forward, norm)  # pyright: ignore[reportArgumentType]
        # The mean of all batches, not one that forgets.
        norm.momentum = None
    count = 0
    for run in batches:
        run()
        count += 1
    statistics = [norm.get_buffer(name) for norm in norms for name in ("running_mean", "running_var")]
    sums = group.sum([count, *(count * value for one in statistics for value in one.tolist())])
    means = torch.tensor(sums[1:], dtype=torch.float64) / sums[0]
    for statistic, mean in zip(statistics, means.split([len(one) for one in statistics]), strict=True):
        statistic.copy_(mean)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        del norm.forward
        norm.eval()


@contextlib.contextmanager
def left_out_of_norms(net: nn.Module, *, left_out: bool) -> Iterator[None]:
    """Keep what this process shows the network out of the statistics of all processes."""
    norms = [module for module in net.modules() if isinstance(module, SharedBatchNorm)]
    for norm in norms:
        norm.share = 0.0 if left_out else 1.0
    yield
    for norm in norms:
        norm.share = 1.0


class SharedBatchNorm(nn.BatchNorm2d):
    """What `nn.SyncBatchNorm` does, which refuses tensors on the CPU and cannot leave a process's images out.

    Attributes:
        share: How much this process's images count in the statistics: 1, or 0 for not at all.
    """

    share = 1.0

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> SharedBatchNorm:
        """Return a copy that shares the parameters and buffers of `norm`, and its mode."""
        copy = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        copy.load_state_dict(norm.state_dict())
        copy.weight, copy.bias = norm.weight, norm.bias
        return copy.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized()):
            return super().forward(input)
        # In half precision neither a sum nor the number of pixels is exact.
        values = input.float()
        own = torch.cat([values.sum((0, 2, 3)), values.new_tensor([values.numel() / values.shape[1]])])
        sums = _Sum.apply(own * self.share)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centered = values - mean.view(1, -1, 1, 1)
        variance = _Sum.apply(centered.square().sum((0, 2, 3)) * self.share) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, weight)
            # The running variance is the unbiased one, as of torch's own batch norm.
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), weight)
        scaled = centered * (variance.view(1, -1, 1, 1) + self.eps).rsqrt()
        return (scaled * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(input.dtype)
