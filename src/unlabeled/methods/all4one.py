"""All4One: symbiotic neighbor contrastive learning (Estepa et al. 2023).

Estepa, Sarasúa, Nagarajan, Radeva 2023, "All4One: Symbiotic Neighbour Contrastive Learning via
Self-Attention and Redundancy Reduction", section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, cosine
from unlabeled.encoders.attention import check_heads
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.memory import Queue, nearest
from unlabeled.encoders.vit import sincos_positions
from unlabeled.objectives import info_nce
from unlabeled.objectives.precision import full_precision
from unlabeled.objectives.similarity import safe_sqrt
from unlabeled.parallel import gather


class All4One(Method):
    """Neighbors, centroids of neighbors and single dimensions of embeddings are contrasted.

    A momentum network finds each view's nearest neighbors among earlier embeddings. As in NNCLR,
    the nearest one is contrasted with the other view's prediction. A transformer summarizes the
    neighbors of a view as their centroid, its first output; that is contrasted with the centroid of
    the other view, whose neighbors are shifted by one to put a second prediction first. And the
    correlation of the dimensions of online and momentum embeddings is pulled to the identity.

    The authors' repository is followed: correlations are of columns of unit length that are not
    centered, and the predictions among neighbors are not normalized. Positions are sines and
    cosines of a neighbor's rank; their code has them of the dimension.

    Args:
        dim: width of embeddings and queue; 256 in the paper.
        hidden_dim: width of the projector's two hidden layers; 2048 in the paper.
        predictor_dim: width of both predictors' hidden layers; 4096 in the paper.
        neighbors: number of nearest neighbors, at least 1; the paper's 5.
        layers: of the transformer; the code's 3.
        heads: attention heads of the transformer; the code's 8.
        dropout: of the transformer; the code's 0.1.
        queue_size: number of embeddings in the queue; 98304 in the code.
        momentum: of the momentum network, rising to 1 along half a cosine; the code's 0.99.
        temperature: τ of neighbors; the code's 0.2.
        centroid_temperature: τ of centroids; the code's 0.1.
        neighbor_weight: of the loss of neighbors; the code's 0.5.
        centroid_weight: of the loss of centroids; the code's 0.5.
        feature_weight: of the loss of dimensions; the code's 5.
        augment: random augmentation of each view (default: the data set's).
        second_augment: that of the second view, where it differs.
    """

    base_lr = {"lars": 1.0}
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "queue_size": 1024}}
    presets = {
        "paper": {  # of the code for ImageNet-100
            "encoder": "resnet18", "size": 224, "dim": 256, "hidden_dim": 2048,
            "predictor_dim": 4096, "queue_size": 98304,
            "augment": BYOLAugment(), "second_augment": BYOLAugment(blur=0.1, solarize=0.2),
            "epochs": 400, "batch_size": 256, "optimizer": "lars", "lr": 1.0, "warmup_epochs": 10,
            "weight_decay": 1e-5, "lr_factors": {"transformer": 0.1},
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        predictor_dim: int = 512,
        neighbors: int = 5,
        layers: int = 3,
        heads: int = 8,
        dropout: float = 0.1,
        queue_size: int = 4096,
        momentum: float = 0.99,
        temperature: float = 0.2,
        centroid_temperature: float = 0.1,
        neighbor_weight: float = 0.5,
        centroid_weight: float = 0.5,
        feature_weight: float = 5.0,
        augment: Augmentation | None = None,
        second_augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        check_heads(dim, heads)
        hidden = mlp(self.encoder.dim, hidden_dim, hidden_dim, dim)
        self.projector = nn.Sequential(*hidden, nn.BatchNorm1d(dim))
        self.predictor, self.centroid_predictor = (mlp(dim, predictor_dim, dim) for _ in range(2))
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.positions: Tensor
        ranks = sincos_positions(dim, 1, neighbors)[0, :, 0].T.contiguous()  # (neighbors, dim)
        self.register_buffer("positions", ranks, persistent=False)
        self.target = EMA(nn.Sequential(self.encoder, self.projector))
        self.queue = Queue(queue_size, dim)
        self.neighbors, self.momentum = neighbors, cosine(momentum, 1.0)
        self.temperature, self.centroid_temperature = temperature, centroid_temperature
        self.weights = neighbor_weight, centroid_weight, feature_weight
        self.augment = augment or SimCLRAugment()
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.second_augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The weighted sum of the contrasts of neighbors, of centroids and of dimensions."""
        z = [self.project(x) for x in views]  # (B, dim) each
        targets = [F.normalize(self.target(x).float(), dim=1) for x in views]
        self.embeddings = targets[0]
        near = [nearest(self.queue.rows, t, self.neighbors) for t in targets]  # (B, k, dim) each
        nearest_ones, predictions = [n[:, 0] for n in near], [self.predictor(v) for v in z]
        centroids = [self.centroid(n) for n in near]
        shifted = [self.centroid(self.shift(v, n)) for v, n in zip(z, near, strict=True)]
        terms = (
            contrast(nearest_ones, predictions, self.temperature),
            contrast(centroids, shifted, self.centroid_temperature),
            feature_contrast(*(gather(rows) for rows in (*targets, *z))),
        )
        return torch.stack([w * t for w, t in zip(self.weights, terms, strict=True)]).sum()

    def shift(self, z: Tensor, near: Tensor) -> Tensor:
        """Neighbors (B, k, dim) after the second prediction of z (B, dim), without the farthest."""
        first = self.centroid_predictor(z)[:, None]
        return torch.cat([first, near[:, :-1].to(first.dtype)], 1)

    def centroid(self, tokens: Tensor) -> Tensor:
        """Output of the transformer for the first of the tokens (B, k, dim): (B, dim)."""
        return self.transformer(tokens + self.positions[: tokens.shape[1]])[:, 0]

    def update(self) -> None:
        """Update the momentum network; enqueue the embeddings of the first views."""
        online = nn.Sequential(self.encoder, self.projector)
        self.target.update(online, self.momentum(self.progress))
        self.queue.enqueue(self.embeddings)


def contrast(a: list[Tensor], b: list[Tensor], temperature: float) -> Tensor:
    """InfoNCE of rows of a of one view and of b of the other, mean of both ways.

    As in NNCLR, the softmax runs over b of all processes.
    """
    unit_a, unit_b = ([gather(F.normalize(z.float(), dim=1)) for z in part] for part in (a, b))
    there = info_nce(unit_a[0], unit_b[1], temperature)
    back = info_nce(unit_a[1], unit_b[0], temperature)
    return (there + back) / 2


@full_precision
def feature_contrast(target_a: Tensor, target_b: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Redundancy reduction: distance from the identity of correlations over the batch.

    With C the cosines of dimensions, columns, of targets of one view and of embeddings of the
    other: the root mean square of 1 − C_ii and of C_ij for i ≠ j, over both ways; their mean.

    Args:
        target_a: (n, d) targets of the first view.
        target_b: (n, d) of the second view.
        a: (n, d) embeddings of the first view.
        b: (n, d) of the second view.
    """
    target_a, target_b, a, b = (F.normalize(z, dim=0) for z in (target_a, target_b, a, b))
    c = torch.stack([target_a.T @ b, target_b.T @ a])  # (2, d, d)
    diagonal, d = c.diagonal(dim1=1, dim2=2), c.shape[1]
    redundancy = (c.pow(2).sum() - diagonal.pow(2).sum()) / (2 * d * max(1, d - 1))
    return (safe_sqrt((1 - diagonal).pow(2).mean()) + safe_sqrt(redundancy)) / 2
