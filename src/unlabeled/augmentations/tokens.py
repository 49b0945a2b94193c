"""Mask, change, pack and join tokens, int64 (B, n)."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unlabeled.augmentations.vocabulary import END, FIRST_WORD, MASK, PAD, UNKNOWN


def to_vocabulary(ids: Int[Tensor, " ..."], vocabulary: int) -> Int[Tensor, " ..."]:
    """Replace tokens outside the vocabulary by UNKNOWN."""
    return ids.masked_fill(ids >= vocabulary, UNKNOWN)


def pack_tokens(ids: Int[Tensor, "b n"]) -> Int[Tensor, "b m"]:
    """Move padding to the end of each row, and cut the rows to the longest text."""
    is_token, length = ids != PAD, ids.shape[1]
    target = torch.where(is_token, is_token.cumsum(1) - 1, length)  # padding into one extra column
    packed = torch.full_like(ids[:, :1], PAD).repeat(1, length + 1).scatter(1, target, ids)
    exporting = torch.jit.is_tracing() or torch.compiler.is_exporting()
    if not (exporting or ids.is_meta) and len(ids):  # exports take any length, meta has no values
        length = max(1, int(is_token.sum(1).max()))
    return packed[:, :length]


def random_start(ids: Int[Tensor, "b n"], fraction: float) -> Int[Tensor, "b m"]:
    """Skip a random share of each text at its start, at most that fraction; the same for all.

    Args:
        ids: tokens, with padding at the end.
        fraction: largest share that is skipped.
    """
    n = ids.shape[1]
    skipped = int(torch.randint(int(fraction * n) + 1, ()))  # of a text of n tokens
    first = skipped * (ids != PAD).sum(1, keepdim=True) // n
    return ids.gather(1, first + torch.arange(n - skipped, device=ids.device))


def choose_tokens(ids: Int[Tensor, "b n"], share: float) -> Bool[Tensor, "b n"]:
    """A random share of each row's words, at least one of them; special tokens never are, except
    UNKNOWN.
    """
    words = (ids >= FIRST_WORD) | (ids == UNKNOWN)
    draw = torch.rand(ids.shape, device=ids.device).masked_fill(~words, 2.0)
    count = (share * words.sum(1, keepdim=True)).round().clamp(min=1)
    return words & (draw.argsort(1).argsort(1) < count)


def mask_tokens(
    ids: Int[Tensor, "b n"], vocabulary: int, share: float = 0.15
) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """BERT's masking: the masked tokens, and which ones were chosen.

    Of the chosen words 80 % become MASK, 10 % a random word and 10 % stay unchanged. Special tokens
    are never chosen, except UNKNOWN.

    Args:
        ids: tokens.
        vocabulary: number of tokens.
        share: of each row's words that are chosen; at least one word is.

    Source: Devlin et al. 2019, section 3.1.
    """
    chosen = choose_tokens(ids, share)
    action = torch.rand(ids.shape, device=ids.device)
    other = torch.randint(FIRST_WORD, max(vocabulary, FIRST_WORD + 1), ids.shape, device=ids.device)
    masked = torch.where(chosen & (action < 0.8), MASK, ids)
    return torch.where(chosen & (action >= 0.9), other, masked), chosen


def join_texts(first: Int[Tensor, "b n"], second: Int[Tensor, "b m"]) -> Int[Tensor, "b k"]:
    """Concatenate two texts, separated by an additional END."""
    end = torch.full_like(first[:, :1], END)
    return torch.cat([first, end, second], 1)


def derangement(n: int, device: torch.device) -> Int[Tensor, " n"]:
    """A random permutation of n > 1 rows that leaves none in place."""
    order = torch.randperm(n, device=device)
    permutation = torch.empty_like(order)
    permutation[order] = order.roll(1)
    return permutation
