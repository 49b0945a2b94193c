"""Batches that are spread over processes: what every loss over a whole batch needs.

Each process holds some rows of a batch. A loss over the whole batch is computed from `gather`ed
rows on every process alike. Gradients of the processes are averaged afterwards, as DDP does; then
the result is the gradient of one process that held all rows. Alone, these functions do nothing.
"""

from __future__ import annotations

import builtins
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unlabeled.errors import UserError


def world_size() -> int:
    """How many processes share a batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 before they are connected."""
    return dist.get_rank() if world_size() > 1 else 0


def is_first() -> bool:
    """Whether this process speaks and writes for all, as whatever launched it says.

    torchrun sets RANK; Lightning, which starts the other processes itself, LOCAL_RANK; who starts
    one on each machine, NODE_RANK; SLURM's own number counts where none of them started it.
    """
    names = ["RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK"]
    if not {"RANK", "LOCAL_RANK"} & set(os.environ):
        names.append("SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


def check_launch(devices: int, nodes: int) -> None:
    """Refuse numbers that are not those of the processes that run already.

    Raises:
        UserError: torchrun or SLURM started another number, or an earlier training of this program;
            or processes would have to be started by running this program again, which cannot be.
    """
    by_slurm = os.environ.get("SLURM_JOB_NAME") not in (None, "bash", "interactive")
    started, by = world_size(), "an earlier training here"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        started, by = int(os.environ["WORLD_SIZE"]), "torchrun"
    elif by_slurm and "SLURM_PROCID" in os.environ and "SLURM_NTASKS" in os.environ:
        started, by = int(os.environ["SLURM_NTASKS"]), "SLURM"
    if started > 1 and started != devices * nodes:
        raise UserError(
            f"{by} started {started} processes, but devices × nodes is {devices} × {nodes}; give "
            "--devices and --nodes that make as many"
        )
    if started == 1 and devices * nodes > 1 and not _can_run_again():
        raise UserError(
            f"{devices * nodes} devices need a process each, which a notebook, python -c or an "
            "interactive Python cannot start; give devices=1 here, or save the call in a file and "
            "run it by python FILE, or by the command unlabeled train in a terminal"
        )


def _can_run_again() -> bool:
    """Whether there is a script or module that further processes can be started with."""
    if {"RANK", "LOCAL_RANK"} & set(os.environ):
        return True  # this process was started so, or by whoever starts the others, too
    if hasattr(sys, "ps1") or sys.flags.interactive or hasattr(builtins, "get_ipython"):
        return False
    by_name = getattr(sys.modules.get("__main__"), "__spec__", None) is not None
    return by_name or Path(sys.argv[0]).is_file()


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, with gradient: (n, …) -> (world·n, …).

    Its gradient is summed over the processes, since each uses all rows; without that it would be
    too small by their number, and without any gradient of the others' rows, wrong in direction.
    """
    return _Gather.apply(x) if world_size() > 1 else x


def row_ids(x: Tensor) -> Tensor:
    """A number for each row (n, …), the same where all values are, in every process: (n,) int64.

    A hash of 64 bits: rows that differ have the same number about once in 10¹⁹ pairs.
    """
    values = x.flatten(1)
    if values.is_floating_point():
        values = (values.float() + 0.0).contiguous().view(torch.int32)  # −0 is 0
    place = torch.arange(1, values.shape[1] + 1, device=x.device)
    return _mixed(_mixed(values.long()) + _mixed(place) * 2 + 1).sum(1)


def _mixed(x: Tensor) -> Tensor:
    """Integers whose every bit depends on all of those of x (splitmix64, Steele et al. 2014)."""
    x = (x ^ (x >> 30)) * -0x40A7B892E31B1A47
    x = (x ^ (x >> 27)) * -0x6B2FB644ECCEEE15
    return x ^ (x >> 31)


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
        grad = grad.clone(memory_format=torch.contiguous_format)
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


CHUNK = 2**12
"""Values of a channel that torch's BatchNorm adds up one by one in float32 without much loss."""


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel on a CPU: (B, C, …) -> (C,), (C,) in float32.

    torch adds up one value after another in float32 where channels come last: at 512×16×64×64 the
    variance is up to 0.2 % too small. Here it does so in chunks of the batch, which are combined
    in float64 (Chan, Golub, LeVeque 1979), as fast and right to 1e-6.
    """
    rows = max(1, CHUNK * x.shape[1] * len(x) // x.numel())
    # The kernel writes its running statistics, which the caller has no use for.
    unused = x.new_zeros((2, x.shape[1]), dtype=torch.float32)
    found = [torch.ops.aten.batch_norm_update_stats(part, *unused, 0.0) for part in x.split(rows)]
    means, variances = (torch.stack(part).double() for part in zip(*found, strict=True))
    share = means.new_tensor([len(part) / len(x) for part in x.split(rows)])[:, None]
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean) ** 2)).sum(0)
    return mean.float(), variance.float()


class _Normalize(torch.autograd.Function):
    """BatchNorm by statistics of the batch that are known; they take part in the gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, *known: Any
    ) -> Tensor:
        mean, variance, eps = known
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps))
        ctx.eps = eps
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *saved = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        return (
            *torch.ops.aten.native_batch_norm_backward(
                grad, x, weight, None, None, *saved, True, ctx.eps, wanted
            ),
            None,
            None,
            None,
        )


class _AllOfBatch(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the batch of all processes, on any device; torch's own is for GPUs only.

    In one process it is torch's own, with exact statistics on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, …) -> (B, C, …)."""
        if not self.training:
            return super().forward(x)
        if world_size() == 1:
            return self._alone(x)
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        wide = x if x.dtype == torch.float64 else x.float()
        count = wide.numel() // wide.shape[1] * world_size()
        mean = sum_over(wide.sum(dims)) / count
        centered = wide - mean.view(shape)
        variance = sum_over((centered**2).sum(dims)) / count
        self._track(mean, variance, count)
        scaled = centered * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(x.dtype)

    def _alone(self, x: Tensor) -> Tensor:
        """The batch of one process: exact where torch's own would not be."""
        count = x.numel() // max(1, x.shape[1])
        rounded = x.device.type == "cpu" and x.dtype != torch.float64 and count > CHUNK
        if not rounded or torch.compiler.is_compiling():
            return super().forward(x)
        self._check_input_dim(x)
        mean, variance = batch_statistics(x.detach())
        self._track(mean, variance, count)
        weight, bias = (self.weight, self.bias) if self.affine else (None, None)
        out: Tensor = _Normalize.apply(x, weight, bias, mean, variance, self.eps)
        return out

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards those of a batch of so many values a channel."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked += 1  # type: ignore[operator, assignment]
        count_of_all = float(self.num_batches_tracked)  # type: ignore[arg-type]
        share = 1 / count_of_all if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / max(count - 1, 1), share)


class _Synced1d(_AllOfBatch, nn.BatchNorm1d):
    pass


class _Synced2d(_AllOfBatch, nn.BatchNorm2d):
    pass


class _Synced3d(_AllOfBatch, nn.BatchNorm3d):
    pass


_SYNCED: dict[type, type] = {
    nn.BatchNorm1d: _Synced1d,
    nn.BatchNorm2d: _Synced2d,
    nn.BatchNorm3d: _Synced3d,
}


def synchronize(module: nn.Module, processes: int = 2) -> nn.Module:
    """The module with every BatchNorm in it over the batch of all processes, in place.

    The layers stay what they are in all else: their class is changed, and `restore` changes it
    back. In one process it makes their statistics exact, and leaves what is no plain BatchNorm.

    Raises:
        UserError: a layer is a BatchNorm that does something besides, and there are several.
    """
    for layer in module.modules():
        if type(layer) in _SYNCED:
            layer.__class__ = _SYNCED[type(layer)]
        elif (
            processes > 1
            and isinstance(layer, nn.modules.batchnorm._BatchNorm)
            and not isinstance(layer, _AllOfBatch | nn.SyncBatchNorm)
        ):
            raise UserError(
                f"the network's {type(layer).__name__} is no plain BatchNorm and cannot look at "
                "the batch of all processes; train on one device, or use another norm"
            )
    return module


def restore(module: nn.Module) -> nn.Module:
    """Undo `synchronize`."""
    plain = {synced: kind for kind, synced in _SYNCED.items()}
    for layer in module.modules():
        if type(layer) in plain:
            layer.__class__ = plain[type(layer)]
    return module
