"""Autoregressive model: predict each value from all before it (van den Oord et al. 2016).

Elman 1990 for recurrent networks, Graves 2013 for LSTMs, Radford et al. 2018 for transformers; the
order of pixels is that of van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural
Networks", but for the channels, which follow each other as whole images, not pixel by pixel.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.attention import Transformer
from unlabeled.encoders.sequence import SequenceEncoder
from unlabeled.errors import UserError
from unlabeled.modality import Images


class Autoregressive(Method):
    """p(x) = Π p(x_i | x_1 … x_{i−1}), by a causal sequence encoder and one linear layer.

    Args:
        values: "binary" samples pixels black or white by their brightness; "bytes" are 256
            categories, such as characters; "real" numbers have a normal distribution around the
            previous value plus a predicted step.
        shape: channels, height and width of the images (default: the data set's).
    """

    default_encoder = {Images: "lstm"}
    recipe = Recipe(
        epochs=20, batch_size=64, optimizer="adam", lr=2e-3, schedule="one_cycle",
        weight_decay=0.0, grad_clip_norm=1.0,
    )  # fmt: skip
    recipes = {"fashion_mnist": {"epochs": 4}}

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
        outputs = {"binary": 1, "bytes": 256, "real": 2}[values]
        self.output: Any = nn.Linear(encoder.dim, outputs)
        self.values, self.shape = values, shape

    def views(self, batch: Batch) -> Tensor:
        """Values in order (B, L), in [0, 1]."""
        x = batch.x.flatten(1)
        return torch.bernoulli(x.clamp(0, 1)) if self.values == "binary" else x

    def loss(self, views: Tensor) -> Tensor:
        """Mean negative log-likelihood of a value, in nats."""
        return self.negative_log_likelihood(views).mean()

    def negative_log_likelihood(self, x: Tensor) -> Tensor:
        """−log p of each value given those before, nats: (B, L) -> (B, L)."""
        output = self.output(self.encoder.states(x, exclude_current=True)).float()  # (B, L, k)
        if self.values == "binary":
            return F.binary_cross_entropy_with_logits(output[:, :, 0], x, reduction="none")
        if self.values == "bytes":
            target = (255 * x).round().long()
            return F.cross_entropy(output.transpose(1, 2), target, reduction="none")
        mean, std = self.normal(output, x)
        return ((x - mean) / std) ** 2 / 2 + std.log() + math.log(2 * math.pi) / 2

    def normal(self, output: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations (B, L) of real values x (B, L)."""
        previous = torch.cat([torch.full_like(x[:, :1], 0.5), x[:, :-1]], 1)
        step, log_scale = output.unbind(2)
        return previous + step, F.softplus(log_scale) + 1e-3

    def predict(self, x: Tensor) -> Tensor:
        """Expected real values, each given those before: (B, L) -> (B, L)."""
        return self.normal(self.output(self.encoder.states(x, exclude_current=True)).float(), x)[0]

    @torch.no_grad()
    def sample(
        self, number: int, prefix: Tensor | None = None, length: int | None = None
    ) -> Tensor:
        """New images (number, C, H, W), value by value.

        Args:
            number: of images.
            prefix: first values (number, k), to be continued; a transformer reads the last half of
                its positions of a longer one.
            length: number of values with the prefix (default: an image's), else the result is
                (number, length).
        """
        total = math.prod(self.shape) if length is None else length
        device = next(self.parameters()).device
        x = torch.empty(number, 0, device=device) if prefix is None else prefix
        positions = self.encoder.length if isinstance(self.encoder.body, Transformer) else math.inf
        few = x if x.shape[1] < positions else x[:, -self.encoder.length // 2 :]
        state, cache = self.encoder.forward_cached(few)
        while x.shape[1] < total:
            x = torch.cat([x, self.sample_next(self.output(state).float(), x)], 1)
            if isinstance(cache, list) and cache[0].shape[3] >= positions:
                # A transformer's positions are used up: restart from the last half.
                state, cache = self.encoder.forward_cached(x[:, -self.encoder.length // 2 :])
            else:
                state, cache = self.encoder.forward_cached(x[:, -1:], cache)
        return x if length is not None else x.view(number, *self.shape)

    def sample_next(self, output: Tensor, x: Tensor) -> Tensor:
        """The next value (B, 1), from the output for it (B, k) and the values before (B, L)."""
        if self.values == "binary":
            return torch.bernoulli(output.sigmoid())
        if self.values == "bytes":
            return torch.multinomial(output.softmax(1), 1) / 255
        previous = x[:, -1:] if x.shape[1] else torch.full_like(output[:, :1], 0.5)
        std = F.softplus(output[:, 1:]) + 1e-3
        return previous + output[:, :1] + std * torch.randn_like(previous)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """Images beside completions of their first halves, and samples; nothing of sequences."""
        if min(self.shape[1:]) < 4:
            return {}
        half = self.views(Batch(x, torch.arange(len(x))))[:, : math.prod(self.shape) // 2]
        return {
            "image, and its first half completed": torch.stack([x, self.sample(len(x), half)], 1),
            "samples": self.sample(len(x))[:, None],
        }

    def animate(self, x: Tensor) -> dict[str, Tensor]:
        """Samples as they are generated row by row; nothing of sequences."""
        if min(self.shape[1:]) < 4 or self.shape[0] != 1:
            return {}
        samples = self.sample(min(6, len(x)))
        row = torch.arange(self.shape[1], device=x.device)[:, None]
        frames = [torch.where(row < t, samples, 0.5) for t in range(0, self.shape[1] + 1, 2)]
        return {"samples, row by row": torch.stack([*frames, samples], 1)}
