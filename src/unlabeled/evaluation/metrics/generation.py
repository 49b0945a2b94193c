"""How well generative models fit images, and how similar their samples are to images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from unlabeled import registry
from unlabeled.core import Batch
from unlabeled.data.dataset import Samples, to_float
from unlabeled.errors import UserError, notice
from unlabeled.evaluation.generation import frechet
from unlabeled.evaluation.intervals import Groups
from unlabeled.evaluation.language import random_groups, random_rows
from unlabeled.evaluation.metric import Metric, Subject, Value, Values, mean
from unlabeled.evaluation.ngram import KneserNey, best_order
from unlabeled.evaluation.sampling import draw, maker, opener
from unlabeled.modality import Images
from unlabeled.utils.state import preserve_rng

SAMPLES = 500
"""Test samples at most, and as many generated ones."""
COMPONENTS = 64
"""Principal components of the pixels that the Fréchet distance is computed in."""
COUNTED = 20_000_000
"""Bytes of the training part at most that n-grams are counted in."""


class Bits(Metric):
    """Mean negative log-likelihood of a value, such as a pixel or a character, in bits.

    `independent_pixels` has a probability for each pixel; `5-gram` (interpolated Kneser-Ney, of the
    order that is best at the end of the training part) counts sequences of characters. Of real
    numbers it is a density, which may be below 0.
    """

    key = "bits"
    title = "Bits per value"
    order, higher_is_better = 1, False

    def applies(self, subject: Subject) -> bool:
        """For `autoregressive`."""
        some = len(subject.splits.test) > 0
        return some and subject.method_name == "autoregressive" and subject.has("values")

    @torch.no_grad()
    def compute(self, subject: Subject) -> Value:
        """With its bootstrap interval over samples."""
        parts = [
            subject.method.negative_log_likelihood(x).double().mean(1)
            for x in _values(subject).split(50)
        ]
        return mean(torch.cat(parts).numpy() / math.log(2), _groups(subject))

    def references(self, subject: Subject) -> dict[str, Values]:
        """Independent pixels, or counted characters."""
        x, groups = _values(subject), _groups(subject)
        if subject.method.values == "binary":
            p = _pixel_means(subject).flatten()
            bits = F.binary_cross_entropy(p.expand(x.shape), x, reduction="none")
            return {"independent_pixels": mean(bits.mean(1).numpy() / math.log(2), groups)}
        if subject.method.values == "bytes":
            text = subject.splits.train.x[: COUNTED // x.shape[1]].tobytes()
            order = best_order(text, range(1, 9))
            model = KneserNey(text, order)
            rows = [model.surprises(row.astype(np.uint8).tobytes()).mean() for row in _bytes(x)]
            return {f"{order}-gram": mean(np.array(rows), groups)}
        return {}


class ELBO(Metric):
    """Evidence lower bound of the log-likelihood of an image, in nats; one sample of z for each."""

    key = "elbo"
    title = "ELBO per image"
    decimals, order = 1, 1

    def applies(self, subject: Subject) -> bool:
        """For `vae` and `helmholtz`."""
        names = {"vae": ("decoder", "log_variance"), "helmholtz": ("bound",)}
        some = len(subject.splits.test) > 0
        return some and subject.method_name in names and subject.has(*names[subject.method_name])

    @torch.no_grad()
    def compute(self, subject: Subject) -> Value:
        """With its bootstrap interval over images."""
        x, method = _images(subject, subject.splits.test), subject.method
        with preserve_rng(0):
            if subject.method_name == "helmholtz":
                bound = torch.cat([method.bound(part) for part in x.split(100)])
                return mean(bound.double().numpy(), _groups(subject))
            bounds = []
            for part in x.split(100):
                features = method.encoder(part)
                mu, log_variance = method.mean(features), method.log_variance(features)
                z = mu + torch.exp(log_variance / 2) * torch.randn_like(mu)
                kl = (mu**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2
                bounds.append(-method.negative_log_likelihood(method.decoder(z), part) - kl)
        return mean(torch.cat(bounds).double().numpy(), _groups(subject))

    def references(self, subject: Subject) -> dict[str, Values]:
        """A probability for each pixel, independent of all others."""
        if getattr(subject.method, "likelihood", "bernoulli") != "bernoulli":
            return {}
        x = _images(subject, subject.splits.test)
        if float(x.min()) < 0 or float(x.max()) > 1:
            return {}
        p = _pixel_means(subject).expand(x.shape)
        nats = F.binary_cross_entropy(p, x, reduction="none").flatten(1).sum(1)
        return {"independent_pixels": mean(-nats.double().numpy(), _groups(subject))}


class FrechetDistance(Metric):
    """Fréchet distance between 500 generated and 500 test images.

    In the space of the first 64 principal components of the pixels of training images;
    `training_images` in place of generated ones show what is left between two samples of the data.
    """

    key = "frechet_distance"
    title = "Fréchet distance (PCA of pixels)"
    order, higher_is_better = 2, False

    def applies(self, subject: Subject) -> bool:
        """For generative models of images."""
        images = isinstance(subject.modality, Images) and len(subject.splits.test) > 1
        return images and subject.run is not None and subject.shared(_generated) is not None

    def compute(self, subject: Subject) -> Value:
        """Without an interval: fewer distinct samples have a larger distance."""
        return _distance(subject, subject.shared(_generated))

    def references(self, subject: Subject) -> dict[str, Values]:
        """Training images in place of generated ones."""
        return {"training_images": _distance(subject, _images(subject, subject.splits.train))}


def _values(subject: Subject) -> torch.Tensor:
    """Test samples in order (n, L), as the method sees them."""
    x = _images(subject, subject.splits.test)
    with preserve_rng(0):
        views: torch.Tensor = subject.method.views(Batch(x, torch.arange(len(x))))
    return views


def _bytes(x: torch.Tensor) -> np.ndarray:
    return (255 * x).round().numpy()


def _images(subject: Subject, part: Samples) -> torch.Tensor:
    rows = random_rows(part, SAMPLES)
    return to_float(torch.from_numpy(part.x[rows]), subject.splits.value_range)


def _pixel_means(subject: Subject) -> torch.Tensor:
    """Mean of each pixel of some training images (C, H, W), as if 1 white and 1 black were seen."""
    part = subject.splits.train
    rows = random_rows(part, 10 * SAMPLES)
    x = to_float(torch.from_numpy(part.x[rows]), subject.splits.value_range).clamp(0, 1)
    return (x.sum(0) + 1) / (len(x) + 2)


def _generated(subject: Subject) -> torch.Tensor | None:
    """Generated images; None if the method generates none of this size."""
    run = subject.run
    assert run
    own = subject.method_name not in registry.listing("methods")
    if not (hasattr(run.method, "sample") if own else opener(subject.method_name)):
        return None
    try:
        method: Any = maker(run) if run.method is None else run.method
        if getattr(method, "values", "") == "bytes":
            return None
        x = torch.from_numpy(draw(method, SAMPLES))
    except UserError as error:
        notice(f"the Fréchet distance is not computed: {error}")
        return None
    return x if x.shape[1:] == subject.splits.test.x.shape[1:] else None


def _distance(subject: Subject, x: torch.Tensor) -> Value:
    from unlabeled.encoders.baselines import PCA

    train = _images(subject, subject.splits.train)
    dim = min(COMPONENTS, len(train), train[0].numel())
    pca = PCA(train.shape[1], (train.shape[2], train.shape[3]), dim).fit(train)
    test = _images(subject, subject.splits.test)
    return Value.of(frechet(pca(x).numpy(), pca(test).numpy()))


def _groups(subject: Subject) -> Groups:
    return random_groups(subject.splits.test, SAMPLES)
