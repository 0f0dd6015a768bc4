"""The processes that train one network together, this one among them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Group:
    """Attributes: this process's number `rank`, of `size`, and the device that it computes on."""

    rank: int
    size: int
    device: str

    @classmethod
    def current(cls, device: str) -> Group:
        """Return the group that was set up for this process; it is alone where none was."""
        if dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size(), device)
        return cls(0, 1, device)

    def is_always_busy(self, num_samples: int, batch_size: int, num_parts: int) -> bool:
        """Return whether every process has images of its own in all parts of all steps of a training.

        Args:
            num_samples: In the set, of which the last batch of an epoch has what is left.
            batch_size: Images of a step, of all processes together.
            num_parts: Parts that a process's share of a batch is computed in.
        """
        part_size = -(-batch_size // (self.size * num_parts))
        for images in (min(batch_size, num_samples), num_samples % batch_size):
            least, most = images // self.size, -(-images // self.size)
            if -(-least // part_size) < -(-most // part_size):
                return False
        return True

    def sum(self, values: list[float]) -> list[float]:
        """Add up each number over the processes, in double precision."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def share_buffers(self, net: nn.Module) -> None:
        """Give every process the first one's buffers.

        They differ in the statistics of a batch norm that is over each process's share.
        """
        if self.size > 1:
            for buffer in net.buffers():
                dist.broadcast(buffer, 0)

    def wrap(self, net: nn.Module) -> nn.Module:
        """Return the module whose backward pass averages the gradients over the processes."""
        if self.size == 1:
            return net
        devices = [torch.device(self.device)] if self.device != "cpu" else None
        return DistributedDataParallel(net, device_ids=devices, forward_sync_buffers=False)


def keep_gradients(net: nn.Module) -> contextlib.AbstractContextManager:
    """Return a context in which backward passes add to this process's gradients and average nothing yet."""
    return net.no_sync() if isinstance(net, DistributedDataParallel) else contextlib.nullcontext()
