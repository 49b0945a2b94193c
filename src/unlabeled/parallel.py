"""Batches split over processes: gathering, sums, and BatchNorm over all of them.

Each process has some rows of a batch. A loss over the whole batch is computed from `gather`ed rows
on every process; DDP then averages the gradients, which gives the gradient of one process with all
rows. In a single process, these functions do nothing.

A process may also compute parts of its rows one after another (`in_parts`). To a loss each of them
is a process; to BatchNorm it is a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unlabeled.errors import UserError


class Parts(Protocol):
    """Parts of a process's rows that are computed one after another."""

    number: int  #: of parts
    current: int  #: index of the part that is computed now

    def gather(self, x: Tensor) -> Tensor:
        """Rows of all parts of all processes, part by part: (n, …) -> (number·processes·n, …)."""


_parts: Parts | None = None


@contextmanager
def in_parts(parts: Parts) -> Iterator[None]:
    """Context in which `gather`, `own` and the sums are over the parts of all processes."""
    global _parts
    before, _parts = _parts, parts
    try:
        yield
    finally:
        _parts = before


def process_count() -> int:
    """Number of processes that share a batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def world_size() -> int:
    """Number of processes that share a batch, times the parts that each computes."""
    return process_count() * (_parts.number if _parts else 1)


def rank() -> int:
    """Rank of this process; 0 before the processes are connected."""
    return dist.get_rank() if process_count() > 1 else 0


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, with gradient: (n, …) -> (world·n, …).

    Its gradient is summed over the processes, since each of them uses all rows. Without the sum the
    gradient would be too small; without a gradient for the others' rows its direction is wrong.
    """
    if _parts:
        return _parts.gather(x)
    return gather_processes(x)


def gather_processes(x: Tensor) -> Tensor:
    """As `gather`, without regard to parts."""
    return _Gather.apply(x) if process_count() > 1 else x


def row_ids(x: Tensor) -> Tensor:
    """64-bit hash of each row (n, …), equal for equal rows in every process: (n,) int64.

    Different rows have the same hash about once in 10¹⁹ pairs.
    """
    values = x.flatten(1)
    if values.is_floating_point():
        values = (values.float() + 0.0).contiguous().view(torch.int32)  # −0 is 0
    column = torch.arange(1, values.shape[1] + 1, device=x.device)
    return _mixed(_mixed(values.long()) + _mixed(column) * 2 + 1).sum(1)


def _mixed(x: Tensor) -> Tensor:
    """Hash of integers: every bit depends on all bits of x (splitmix64, Steele et al. 2014)."""
    x = (x ^ (x >> 30)) * -0x40A7B892E31B1A47
    x = (x ^ (x >> 27)) * -0x6B2FB644ECCEEE15
    return x ^ (x >> 31)


def own(x: Tensor) -> Tensor:
    """The rows of this process among gathered ones: (world·n, …) -> (n, …)."""
    position = rank() + (process_count() * _parts.current if _parts else 0)
    return x.chunk(world_size())[position] if world_size() > 1 else x


def sum_over(x: Tensor) -> Tensor:
    """Sum over all processes, with gradient."""
    return gather(x[None]).sum(0) if _parts else sum_over_processes(x)


def sum_over_processes(x: Tensor) -> Tensor:
    """As `sum_over`, without regard to parts."""
    return _Sum.apply(x) if process_count() > 1 else x


def average_gradients(module: nn.Module) -> None:
    """Replace the gradients of a module's parameters by their means over all processes."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if process_count() > 1 and gradients:
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= process_count()
        for g, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            g.copy_(mean.view_as(g))


def mean_over(x: Tensor) -> Tensor:
    """Mean over all processes, with gradient."""
    return sum_over(x) / world_size()


def mean_of(values: Tensor, rows: Tensor) -> Tensor:
    """Mean of values (n,) where `rows` (n,) is true, over all processes; 0 if it is never true.

    The number of such rows differs by process, so this is not the mean of the processes' means.
    """
    count = sum_over(rows.to(values).sum())
    return sum_over(values.masked_fill(~rows, 0).sum()) / count.clamp(min=1)


def _reduced(x: Tensor) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        rows = [torch.empty_like(x) for _ in range(process_count())]
        dist.all_gather(rows, x)
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _reduced(grad).chunk(process_count())[rank()]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _reduced(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _reduced(grad)


CHUNK = 2**14
"""Number of values per channel that PyTorch's BatchNorm sums in float32 with a small error."""


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel on a CPU: (B, C, …) -> (C,), (C,) in float32.

    PyTorch sums one value after another in float32 if channels come last: at 512×16×64×64 the
    variance is up to 0.2 % too small. Here chunks of the batch are summed so and combined in
    float64 (Chan, Golub, LeVeque 1979), which is as fast and accurate to 1e-5.
    """
    rows = max(1, CHUNK * x.shape[1] * len(x) // x.numel())
    # The kernel also writes running statistics, which are not needed here.
    unused = x.new_zeros((2, x.shape[1]), dtype=torch.float32)
    stats = [torch.ops.aten.batch_norm_update_stats(part, *unused, 0.0) for part in x.split(rows)]
    means, variances = (torch.stack(part).double() for part in zip(*stats, strict=True))
    share = means.new_tensor([len(part) / len(x) for part in x.split(rows)])[:, None]
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean) ** 2)).sum(0)
    return mean.float(), variance.float()


class _Normalize(torch.autograd.Function):
    """BatchNorm with given statistics of the batch, which take part in the gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, *stats: Any
    ) -> Tensor:
        mean, variance, eps = stats
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps))
        ctx.eps = eps
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *saved = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, *saved, True, ctx.eps, wanted
        )
        return *grads, None, None, None


class _AllOfBatch(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the batch of all processes, on any device; PyTorch's SyncBatchNorm needs GPUs.

    In one process it is PyTorch's BatchNorm, with exact statistics on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, …) -> (B, C, …)."""
        if not self.training:
            return super().forward(x)
        if process_count() == 1:
            return self._alone(x)
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        wide = x if x.dtype == torch.float64 else x.float()
        count = wide.numel() // wide.shape[1] * process_count()
        mean = sum_over_processes(wide.sum(dims)) / count
        centered = wide - mean.view(shape)
        variance = sum_over_processes((centered**2).sum(dims)) / count
        self._track(mean, variance, count)
        scaled = centered * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(x.dtype)

    def _alone(self, x: Tensor) -> Tensor:
        """BatchNorm of one process, exact where PyTorch's is not."""
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
        """Update the running statistics from a batch with `count` values per channel."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked += 1  # type: ignore[operator, assignment]
        count_of_all = float(self.num_batches_tracked)  # type: ignore[arg-type]
        share = 1 / count_of_all if self.momentum is None else self.momentum
        # PyTorch's kernel keeps these for its gradient, which does not read them in train mode:
        # with `data` a later batch of another size may change them.
        self.running_mean.data.lerp_(mean, share)
        self.running_var.data.lerp_(variance * count / max(count - 1, 1), share)


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


class _TorchSynced(nn.SyncBatchNorm):
    """PyTorch's SyncBatchNorm, which stores less than ours for the backward pass."""

    process_group = None  # that of all; an instance gets it from the constructor otherwise


_TORCH_SYNCED: dict[type, type] = {
    kind: type(kind.__name__, (_TorchSynced,), {}) for kind in _SYNCED
}


def synchronize(module: nn.Module, processes: int = 2, cuda: bool = False) -> nn.Module:
    """Make every BatchNorm in a module use the batch of all processes, in place.

    Only the class of the layers is changed; `restore` changes it back. In one process their
    statistics become exact, and subclasses of BatchNorm are left alone. With several processes on
    CUDA they become PyTorch's SyncBatchNorm, which works nowhere else.

    Raises:
        UserError: a layer is a subclass of BatchNorm, and there are several processes.
    """
    norm, exact = nn.modules.batchnorm._BatchNorm, _AllOfBatch | nn.SyncBatchNorm
    for layer in module.modules():
        if type(layer) in _SYNCED:
            synced = _TORCH_SYNCED if cuda and processes > 1 else _SYNCED
            layer.__class__ = synced[type(layer)]
        elif processes > 1 and isinstance(layer, norm) and not isinstance(layer, exact):
            raise UserError(
                f"the network's {type(layer).__name__} is not a plain BatchNorm and cannot use the "
                "batch of all processes; train on one device, or use another norm"
            )
    return module


def restore(module: nn.Module) -> nn.Module:
    """Undo `synchronize`."""
    pairs = (*_SYNCED.items(), *_TORCH_SYNCED.items())
    plain = {synced: kind for kind, synced in pairs}
    for layer in module.modules():
        if type(layer) in plain:
            layer.__class__ = plain[type(layer)]
    return module
