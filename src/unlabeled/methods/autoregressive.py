"""Autoregression: say the next value from all before it.

Elman 1990 for recurrent nets, Graves 2013 for LSTM, Radford et al. 2018 for transformers; pixels as
van den Oord, Kalchbrenner, Kavukcuoglu 2016 read them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.sequence import SequenceEncoder
from unlabeled.errors import UserError
from unlabeled.modality import Images


class Autoregressive(Method):
    """p(x) = Π p(x_i | x_1 … x_{i−1}); a reader gives the state, one layer what comes next.

    Args:
        values: "binary" pixels are drawn black or white by their brightness; "bytes" are 256 signs,
            such as characters; "real" numbers get a mean and a deviation, of the step from the
            last one.
        shape: channels, height and width of the images; the data set's own unless given.
    """

    default_encoder: ClassVar = {Images: "lstm"}
    recipe = Recipe(
        epochs=20, batch_size=64, optimizer="adam", lr=2e-3, schedule="one_cycle",
        weight_decay=0.0, grad_clip_norm=1.0,
    )  # fmt: skip
    recipes: ClassVar = {"fashion_mnist": {"epochs": 4}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        values: Literal["binary", "bytes", "real"] = "binary",
        shape: tuple[int, int, int] = (1, 28, 28),
    ) -> None:
        super().__init__(encoder)
        if not isinstance(encoder, SequenceEncoder):
            raise UserError("autoregressive reads in order: use --encoder rnn, lstm or transformer")
        if (encoder.values == "bytes") != (values == "bytes"):
            raise UserError(
                f"this encoder reads {encoder.values}, not {values}; give both the same"
            )
        self.says = nn.Linear(encoder.dim, {"binary": 1, "bytes": 256, "real": 2}[values])
        self.values, self.shape = values, shape

    def views(self, batch: Batch) -> Tensor:
        """Values in order (B, L), in [0, 1]."""
        x = batch.x.flatten(1)
        return torch.bernoulli(x.clamp(0, 1)) if self.values == "binary" else x

    def loss(self, views: Tensor) -> Tensor:
        """Mean surprise of a value, in nats."""
        return self.surprise(views).mean()

    def surprise(self, x: Tensor) -> Tensor:
        """−log p of each value given those before, nats: (B, L) -> (B, L)."""
        encoder: Any = self.encoder
        said = self.says(encoder.states(x, exclude_current=True)).float()  # (B, L, k)
        if self.values == "binary":
            return F.binary_cross_entropy_with_logits(said[:, :, 0], x, reduction="none")
        if self.values == "bytes":
            return F.cross_entropy(said.transpose(1, 2), (255 * x).round().long(), reduction="none")
        mean, deviation = self.told(said, x)
        return ((x - mean) / deviation) ** 2 / 2 + deviation.log() + math.log(2 * math.pi) / 2

    def told(self, said: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and deviations of real values (B, L): a step from the last value each."""
        before = torch.cat([torch.full_like(x[:, :1], 0.5), x[:, :-1]], 1)
        step, spread = said.unbind(2)
        return before + step, F.softplus(spread) + 1e-3

    def predict(self, x: Tensor) -> Tensor:
        """What real values are expected, each from those before: (B, L) -> (B, L)."""
        encoder: Any = self.encoder
        return self.told(self.says(encoder.states(x, exclude_current=True)).float(), x)[0]

    @torch.no_grad()
    def sample(self, number: int, given: Tensor | None = None, length: int | None = None) -> Tensor:
        """New images (number, C, H, W), value by value.

        Args:
            number: how many.
            given: first values (number, k), to be gone on from.
            length: values in all; an image's unless given, then the result is (number, length).
        """
        encoder: Any = self.encoder
        whole = math.prod(self.shape) if length is None else length
        device = next(self.parameters()).device
        x = torch.empty(number, 0, device=device) if given is None else given
        state, memory = encoder.forward_cached(x)
        while x.shape[1] < whole:
            x = torch.cat([x, self.draw(self.says(state).float(), x)], 1)
            if isinstance(memory, list) and memory[0].shape[3] >= encoder.length:
                state, memory = encoder.forward_cached(
                    x[:, -encoder.length // 2 :]
                )  # its places are full
            else:
                state, memory = encoder.forward_cached(x[:, -1:], memory)
        return x if length is not None else x.view(number, *self.shape)

    def draw(self, said: Tensor, x: Tensor) -> Tensor:
        """One more value (B, 1), from what is said of it (B, k) and those before (B, L)."""
        if self.values == "binary":
            return torch.bernoulli(said.sigmoid())
        if self.values == "bytes":
            return torch.multinomial(said.softmax(1), 1) / 255
        last = x[:, -1:] if x.shape[1] else torch.full_like(said[:, :1], 0.5)
        spread = F.softplus(said[:, 1:]) + 1e-3
        return last + said[:, :1] + spread * torch.randn_like(last)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """LazyImages; their upper half gone on from; new ones. Nothing of texts and series."""
        if min(self.shape[1:]) < 4:
            return {}
        half = self.views(Batch(x, torch.arange(len(x))))[:, : math.prod(self.shape) // 2]
        gone_on = self.sample(len(x), half)
        return {
            "image, and its first half gone on from": torch.stack([x, gone_on], 1),
            "samples": self.sample(len(x))[:, None],
        }

    def animate(self, x: Tensor) -> dict[str, Tensor]:
        """New images as they are written, row by row. Nothing of texts and series."""
        if min(self.shape[1:]) < 4 or self.shape[0] != 1:
            return {}
        drawn = self.sample(min(6, len(x)))
        row = torch.arange(self.shape[1], device=x.device)[:, None]
        written = [torch.where(row < t, drawn, 0.5) for t in range(0, self.shape[1] + 1, 2)]
        return {"written row by row": torch.stack([*written, drawn], 1)}
