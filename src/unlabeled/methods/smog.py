"""SMoG: synchronous momentum grouping (Pang et al. 2022).

Pang, Zhang, Li, Cai, Lu 2022, "Unsupervised Visual Representation Learning by Synchronous Momentum
Grouping", section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, cosine
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.memory import Queue, assign, spherical_kmeans
from unlabeled.parallel import gather


class SMoG(Method):
    """A view predicts the group that a momentum encoder finds for the other view.

    Groups are moving averages of the embeddings assigned to them: g ← β g + (1 − β) z̄. They are
    updated before the loss, and the gradient passes through the batch's share of them, so that
    groups and representation change at once. k-means over the latest embeddings sets all groups
    again from time to time, since groups that are never the nearest would not move. The momentum
    network has no predictor, since it has no gradient.

    Args:
        dim: width of the embeddings; 128 in the paper.
        hidden_dim: width of the hidden layer of projector and predictor; 2048 in the paper.
        groups: number of groups; 3000 in the paper.
        group_momentum: β; the paper's 0.99.
        temperature: τ of the prediction; the paper's 0.1.
        momentum: of the momentum encoder at the start, rising to 1 along half a cosine; 0.99.
        reset_every: steps between two clusterings; 300 in the paper.
        queue_size: number of embeddings that are clustered.
        augment: random augmentation of each view (default: the data set's).
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "groups": 64}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        groups: int = 300,
        group_momentum: float = 0.99,
        temperature: float = 0.1,
        momentum: float = 0.99,
        reset_every: int = 300,
        queue_size: int = 4096,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(self.encoder.dim, hidden_dim, dim)
        self.predictor = mlp(dim, hidden_dim, dim)
        self.target = EMA(nn.Sequential(self.encoder, self.projector))
        self.groups: Tensor
        self.register_buffer("groups", F.normalize(torch.randn(groups, dim), dim=1))
        self.queue = Queue(queue_size, dim)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.group_momentum, self.temperature = group_momentum, temperature
        self.momentum, self.reset_every = cosine(momentum, 1.0), reset_every
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of the similarities to the updated groups and the other view's group."""
        outputs = self.project(views[0])
        z = F.normalize(outputs.float(), dim=1)  # (B, dim)
        p = F.normalize(self.predictor(outputs).float(), dim=1)
        t = F.normalize(self.target(views[1]).float(), dim=1)
        self.embeddings = z.detach()
        with torch.autocast(z.device.type, enabled=False):
            groups = self.moved(gather(z))
            return F.cross_entropy(p @ groups.T / self.temperature, assign(t, self.groups))

    def moved(self, z: Tensor) -> Tensor:
        """The groups (K, dim) after embeddings z (B, dim) have been assigned to them."""
        group = assign(z.detach(), self.groups)
        sums = torch.zeros_like(self.groups).index_add(0, group, z)
        count = group.bincount(minlength=len(self.groups))[:, None]
        moved = self.groups.lerp(sums / count.clamp(min=1), 1 - self.group_momentum)
        return F.normalize(torch.where(count > 0, moved, self.groups), dim=1)

    def update(self) -> None:
        """Update groups, momentum encoder and queue; cluster the queue every few steps."""
        online = nn.Sequential(self.encoder, self.projector)
        self.target.update(online, self.momentum(self.progress))
        self.groups.copy_(self.moved(gather(self.embeddings)))
        self.queue.enqueue(self.embeddings)
        self.steps += 1
        if self.steps % self.reset_every == 0:
            seed = int(self.steps)
            self.groups.copy_(spherical_kmeans(self.queue.latest(), len(self.groups), seed))
