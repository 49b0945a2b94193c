"""Batches that are spread over processes: what every loss over a whole batch needs.

Each process holds some rows of a batch. A loss over the whole batch is computed from `gather`ed
rows on every process alike. Gradients of the processes are averaged afterwards, as DDP does; then
the result is the gradient of one process that held all rows. Alone, these functions do nothing.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def world_size() -> int:
    """How many processes share a batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; before they are connected, as whatever launched it says."""
    if world_size() > 1:
        return dist.get_rank()
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", _local_rank())))


def _local_rank() -> str:
    return os.environ.get("LOCAL_RANK", "0")


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, with gradient: (n, …) -> (world·n, …).

    Its gradient is summed over the processes, since each uses all rows; without that it would be
    too small by their number, and without any gradient of the others' rows, wrong in direction.
    """
    return _Gather.apply(x) if world_size() > 1 else x


def own(x: Tensor) -> Tensor:
    """The rows of one process of what was gathered: (world·n, …) -> (n, …)."""
    return x.chunk(world_size())[rank()] if world_size() > 1 else x


def sum_over(x: Tensor) -> Tensor:
    """The sum over all processes, with gradient."""
    return _Sum.apply(x) if world_size() > 1 else x


def mean_over(x: Tensor) -> Tensor:
    """The mean over all processes, with gradient."""
    return sum_over(x) / world_size()


def mean_of(values: Tensor, rows: Tensor) -> Tensor:
    """The mean of values (n,) where `rows` (n,) is true, over all processes; 0 where it never is.

    Each process holds another number of such rows, so it is not the mean of their means.
    """
    count = sum_over(rows.to(values).sum())
    return sum_over(values.masked_fill(~rows, 0).sum()) / count.clamp(min=1)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [
            torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())
        ]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return own(grad)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the batch of all processes, on any device; torch's own is for GPUs only."""

    def _check_input_dim(self, x: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, …) -> (B, C, …)."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        wide = x if x.dtype == torch.float64 else x.float()
        count = wide.numel() // wide.shape[1] * world_size()
        mean = sum_over(wide.sum(dims)) / count
        centred = wide - mean.view(shape)
        variance = sum_over((centred**2).sum(dims)) / count
        tracked = self.track_running_stats
        if tracked and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1  # type: ignore[operator, assignment]
                share = self.momentum or 1 / float(self.num_batches_tracked)  # type: ignore[arg-type]
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * count / max(count - 1, 1), share)
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(x.dtype)


def synchronise(module: nn.Module) -> nn.Module:
    """The module with every BatchNorm in it, not itself one, over the batch of all processes."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            fresh = SyncBatchNorm(
                child.num_features,
                child.eps,
                child.momentum,
                child.affine,
                child.track_running_stats,
            )
            fresh.load_state_dict(child.state_dict())
            fresh.train(child.training).to(next(iter(child.state_dict().values())))
            fresh.requires_grad_(all(p.requires_grad for p in child.parameters()))
            setattr(module, name, fresh)
        else:
            synchronise(child)
    return module
