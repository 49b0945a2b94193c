"""Draw the batches of an epoch."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from unlabeled import parallel
from unlabeled.core import Batch, Method
from unlabeled.data.dataset import LazyImages, Samples, Splits
from unlabeled.errors import UserError, notice
from unlabeled.modality import Pairs

AHEAD = 2
"""Number of batches that are decoded ahead."""
Plan = Callable[[np.random.Generator], np.ndarray]
"""A function that draws the batches of an epoch as rows (steps, batch_size)."""


def loader(
    samples: Samples,
    batch_size: int,
    seed: int,
    target: str | None = None,
    steps_done: tuple[int, int] = (0, 0),
    *,
    partners: bool = False,
    samples_per_class: int = 1,
    clip_length: int = 1,
    max_frame_stride: int = 1,
    labeled_fraction: float = 0.0,
    processes: int = 1,
    nodes: int = 1,
) -> DataLoader:
    """Shuffled batches; the last one is dropped if it is not full.

    Args:
        samples: the samples.
        batch_size: of all processes together; at most the number of samples.
        seed: of the order.
        target: the factor of the labels (default: no labels).
        steps_done: an epoch, and the number of its steps to skip.
        partners: whether batches contain the partners of the samples.
        samples_per_class: number of consecutive samples of a batch that are of the same class.
        clip_length: number of consecutive frames of a shot in a batch.
        max_frame_stride: maximum distance between these frames.
        labeled_fraction: fraction of each batch that is labeled; the labels of the rest are −1.
        processes: number of processes that share each batch.
        nodes: number of machines that they run on.

    Raises:
        UserError: the batch is not divisible, or no class or shot has enough samples.
    """
    batch_size = min(batch_size, len(samples))
    batch_size -= batch_size % clip_length if batch_size > clip_length else 0
    if target is not None and batch_size > samples_per_class:
        batch_size -= batch_size % samples_per_class  # only complete groups
    if batch_size % (processes * clip_length):
        divisor = math.lcm(processes * clip_length, 1 if target is None else samples_per_class)
        parts = [f"clips of {clip_length}"] if clip_length > 1 else []
        parts += [f"{processes} processes"] if processes > 1 else []
        raise UserError(
            f"a batch of {batch_size} is not divided by {' on '.join(parts)}; give --batch-size "
            f"{batch_size // divisor * divisor or divisor}"
        )
    y = None if target is None else samples.factors[target]
    order: Order | StreamOrder
    if samples.streamed:
        if clip_length > 1 or (y is not None and (samples_per_class > 1 or labeled_fraction)):
            raise UserError(
                "batches with several samples of a class, with a fixed number of labels or with "
                "clips need all samples on this disk; download the shards and give their folder"
            )
        order = StreamOrder(samples, batch_size, seed, steps_done, processes, nodes)
        plan = None
    elif clip_length > 1:
        plan = in_clips(samples.factors, batch_size, clip_length, max_frame_stride)
    elif y is not None and samples_per_class > 1:
        plan = in_groups(y, batch_size, samples_per_class)
    elif y is not None and labeled_fraction:
        plan = with_labeled(y, batch_size, labeled_fraction)
    else:
        plan = shuffled(len(samples), batch_size)
    if plan:
        order = Order(plan, seed, steps_done, processes)
    kind = Ahead if isinstance(samples.x, LazyImages) and samples.x.is_full_size else DataLoader
    return kind(
        _Rows(samples, target, partners),
        batch_size // processes,
        sampler=order,
        collate_fn=_as_is,  # type: ignore[arg-type]
        generator=torch.Generator(),  # separate, so that the seeds of the views do not change
        pin_memory=torch.cuda.is_available(),
    )


def label_factor(method: Method, splits: Splits) -> str | None:
    """The factor that becomes `batch.y`, if the method learns from labels."""
    return splits.target if method.supervised else None


def needs_partners(method: Method) -> bool:
    """Whether the method learns from pairs."""
    return Pairs in method.modality


def make_batch(
    samples: Samples, rows: np.ndarray, target: str | None = None, partners: bool = False
) -> Batch:
    """The samples of those rows (B,) as a batch, in their stored form.

    Labels are those of the factor `target`, if any; partners are included if there are some.
    """
    y = None if target is None else torch.from_numpy(samples.factors[target][rows])
    has_partners = partners and samples.partners is not None
    others = torch.from_numpy(samples.partners[rows]) if has_partners else None
    x = samples.x
    if isinstance(x, LazyImages) and x.is_full_size:
        images: torch.Tensor = x.full_size(rows, samples.modality.encoder_input.value_range)
    else:
        images = torch.from_numpy(x[rows])
    return Batch(images, torch.from_numpy(rows), y, others)


def shuffled(n: int, batch_size: int) -> Plan:
    """Every row once."""
    steps = n // batch_size
    return lambda rng: rng.permutation(n)[: steps * batch_size].reshape(steps, batch_size)


def in_groups(y: np.ndarray, batch_size: int, group: int) -> Plan:
    """Every labeled row once, in groups of one class.

    The remainder of a class is left out of the epoch, as are classes smaller than a group.

    Raises:
        UserError: no class has enough samples, or the batch is smaller than a group or too large.
    """
    rows = np.flatnonzero(y >= 0)
    classes, counts = np.unique(y[rows], return_counts=True)
    groups, each = int((counts // group).sum()), batch_size // group
    steps = groups // max(each, 1)
    if not groups:
        single = int((counts == 1).sum())
        raise UserError(
            f"each class needs at least {group} images, since a batch takes so many of it, but the "
            f"largest of {len(classes):,} classes has {counts.max(initial=0)}, and {single:,} have "
            "only one; give more images of each class, or labels of coarser classes"
        )
    if not each:
        raise UserError(
            f"a batch of {batch_size} is smaller than the {group} images that it takes of each "
            f"class; give --batch-size {group} or more"
        )
    if not steps:
        raise UserError(
            f"a batch of {batch_size} takes {group} images of each class, {each} times, but these "
            f"{len(rows):,} images of {len(classes):,} classes give that {groups} times; give "
            f"--batch-size {groups * group} or less"
        )

    def draw(rng: np.random.Generator) -> np.ndarray:
        order = rows[rng.permutation(len(rows))]
        order = order[np.argsort(y[order], kind="stable")]
        firsts = np.cumsum(counts) - counts
        spans = zip(firsts, counts // group * group, strict=True)
        grouped = np.concatenate([np.arange(first, first + count) for first, count in spans])
        shuffled_groups = rng.permutation(order[grouped].reshape(groups, group))
        return shuffled_groups[: steps * each].reshape(steps, each * group)

    return draw


def say_left_out(y: np.ndarray, group: int) -> None:
    """Warn of the classes of y (N,) that are smaller than a group."""
    _, counts = np.unique(y[y >= 0], return_counts=True)
    small = counts[counts < group]
    if len(small):
        notice(
            f"{len(small):,} of {len(counts):,} classes have fewer than the {group} images that a "
            f"batch takes of each; their {small.sum():,} images are left out"
        )


def in_clips(factors: dict[str, np.ndarray], batch_size: int, clip: int, stride: int) -> Plan:
    """Clips of `clip` frames of a shot, as many as an epoch has frames for.

    The first frame is drawn without replacement, and moved backward if the shot would end too soon;
    the distance between frames is drawn from 1 to `stride`, or less if the shot is short. Shots of
    fewer frames are left out, and missing frames are ignored.
    """
    order = np.lexsort((factors["frame"], factors["shot"]))  # rows, shot by shot
    _, first, length = np.unique(factors["shot"][order], return_index=True, return_counts=True)
    begin, frames = np.repeat(first, length), np.repeat(length, length)  # of the shot of each
    steps = len(order) // batch_size
    starts = np.flatnonzero(frames >= clip)
    if not len(starts):
        message = f"no shot has the {clip} frames of a clip, the longest has {length.max()}"
        raise UserError(f"{message}; give longer videos")

    def draw(rng: np.random.Generator) -> np.ndarray:
        number = steps * (batch_size // clip)
        rounds = [rng.permutation(starts) for _ in range(-(-number // len(starts)))]
        start = np.concatenate(rounds)[:number]
        room = (frames[start] - 1) // (clip - 1)
        step = rng.integers(1, np.minimum(stride, room) + 1)
        last = begin[start] + frames[start] - 1 - step * (clip - 1)
        positions = np.minimum(start, last)[:, None] + step[:, None] * np.arange(clip)
        return order[positions].reshape(steps, batch_size)

    return draw


def with_labeled(y: np.ndarray, batch_size: int, share: float) -> Plan:
    """Every row once, labeled or not, and labeled rows again as a fixed share of each batch.

    The latter are at least one row of a batch; each is repeated equally often.

    Raises:
        UserError: no row is labeled, or a batch has one row.
    """
    known = np.flatnonzero(y >= 0)
    if not len(known):
        raise UserError("no sample has a label; give labels with --labels-from")
    if batch_size < 2:
        raise UserError("a batch of 1 has no room for labeled and other samples; give 2 or more")
    k = min(max(1, round(share * batch_size)), batch_size - 1)
    steps = len(y) // (batch_size - k)

    def draw(rng: np.random.Generator) -> np.ndarray:
        rounds = -(-steps * k // len(known))
        again = np.concatenate([rng.permutation(known) for _ in range(rounds)])[: steps * k]
        every = rng.permutation(len(y))[: steps * (batch_size - k)]
        both = np.concatenate([again.reshape(steps, k), every.reshape(steps, -1)], 1)
        return rng.permuted(both, axis=1)

    return draw


class Order(Sampler):
    """Rows that depend only on (seed, epoch), so that a resumed run has the same batches.

    Each process receives its part of every batch, whatever the number of processes.

    Args:
        plan: draws the batches.
        seed: of all epochs.
        done: an epoch, and the number of its steps that a resumed run skips.
        processes: number of processes that share a batch.
    """

    def __init__(
        self, plan: Plan, seed: int, done: tuple[int, int] = (0, 0), processes: int = 1
    ) -> None:
        self.plan, self.seed, self.epoch = plan, seed, 0
        self.done, self.processes = done, processes
        self.size = plan(np.random.default_rng(0)).size // processes

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        epoch, steps = self.done
        batches = self.plan(np.random.default_rng([self.seed, self.epoch]))
        batches = batches[steps if self.epoch == epoch else 0 :]
        rank = parallel.rank() if self.processes > 1 else 0
        return iter(np.split(batches, self.processes, 1)[rank].ravel().tolist())


class StreamOrder(Sampler):
    """As `Order`, for samples in remote shards, few of which are needed at a time.

    Args:
        samples: the samples.
        batch_size: of all processes together.
        seed: of all epochs.
        done: an epoch, and the number of its steps that a resumed run skips.
        processes: number of processes that share a batch, the same on each machine.
        nodes: number of machines.
    """

    def __init__(
        self,
        samples: Samples,
        batch_size: int,
        seed: int,
        done: tuple[int, int],
        processes: int,
        nodes: int,
    ) -> None:
        assert isinstance(samples.x, LazyImages)
        self.x, self.batch_size, self.seed, self.epoch = samples.x, batch_size, seed, 0
        self.done, self.processes, self.nodes = done, processes, nodes
        self.size = len(samples) // batch_size * (batch_size // processes)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        assert self.x.streamed
        epoch, steps = self.done
        done = steps if self.epoch == epoch else 0
        each = self.processes // self.nodes
        rank = parallel.rank() if self.processes > 1 else 0
        batches = self.x.streamed.epoch(
            self.x.rows, self.batch_size, self.seed, self.epoch, done, rank // each, self.nodes
        )
        for batch in batches:
            yield from np.split(batch, each)[rank % each].tolist()


class Ahead(DataLoader):
    """A loader that decodes the next batches in the background."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        batches = super().__iter__()
        waiting = deque(islice(batches, AHEAD))
        while waiting:
            batch = waiting.popleft()
            waiting.extend(islice(batches, 1))
            yield batch


class _Rows(Dataset):
    """Returns complete batches."""

    def __init__(self, samples: Samples, target: str | None, partners: bool) -> None:
        self.samples, self.target, self.partners = samples, target, partners

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, rows: list[int]) -> Batch:
        return make_batch(self.samples, np.asarray(rows), self.target, self.partners)


def _as_is(batch: Batch) -> Batch:
    return batch
