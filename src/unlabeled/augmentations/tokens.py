"""Texts as tokens on the device, and what hides, changes or joins them.

A text is an image of one channel: a row of tokens, or a row for each sentence, stored as uint16
and read as fractions of 65,535 like any image.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unlabeled.augmentations.vocabulary import END, FIRST_WORD, MASK, PAD, UNKNOWN, WHITE


def to_tokens(x: Float[Tensor, " ..."], vocabulary: int) -> Int[Tensor, " ..."]:
    """Images in [0, 1] -> tokens; what the vocabulary does not hold is unknown."""
    ids = (WHITE * x.double()).round().long()
    return ids.masked_fill(ids >= vocabulary, UNKNOWN)


def pack_tokens(ids: Int[Tensor, "b n"]) -> Int[Tensor, "b m"]:
    """Tokens moved together to the left, in their order, padding behind them."""
    known, longest = ids != PAD, ids.shape[1]
    place = torch.where(known, known.cumsum(1) - 1, longest)  # what is nothing goes one beyond
    found = torch.full_like(ids[:, :1], PAD).repeat(1, longest + 1).scatter(1, place, ids)
    taken = torch.jit.is_tracing() or torch.compiler.is_exporting()
    if not (taken or ids.is_meta) and len(ids):  # exports take any text, sketches have no values
        longest = max(1, int(known.sum(1).max()))
    return found[:, :longest]


def mask_tokens(
    ids: Int[Tensor, "b n"], vocabulary: int, share: float = 0.15
) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Tokens with some hidden, and which (Devlin et al. 2019, section 3.1).

    That share of each row's words is chosen, at least one. Of those 80 % become MASK, 10 % another
    word, 10 % stay as they are. Tokens that are no words are never chosen.
    """
    words = (ids >= FIRST_WORD) | (ids == UNKNOWN)
    draw = torch.rand(ids.shape, device=ids.device).masked_fill(~words, 2.0)
    many = (share * words.sum(1, keepdim=True)).round().clamp(min=1)
    chosen = words & (draw.argsort(1).argsort(1) < many)
    fate = torch.rand(ids.shape, device=ids.device)
    other = torch.randint(FIRST_WORD, max(vocabulary, FIRST_WORD + 1), ids.shape, device=ids.device)
    seen = torch.where(chosen & (fate < 0.8), MASK, ids)
    return torch.where(chosen & (fate >= 0.9), other, seen), chosen


def join_texts(first: Int[Tensor, "b n"], second: Int[Tensor, "b m"]) -> Int[Tensor, "b k"]:
    """One text behind another; an END more than after a sentence tells where."""
    end = torch.full_like(first[:, :1], END)
    return torch.cat([first, end, second], 1)


def derangement(n: int, device: torch.device) -> Int[Tensor, " n"]:
    """For each row another one, at random."""
    order = torch.randperm(n, device=device)
    found = torch.empty_like(order)
    found[order] = order.roll(1)
    return found
