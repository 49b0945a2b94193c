"""NNCLR: nearest-neighbor contrastive learning of visual representations (Dwibedi et al. 2021).

Dwibedi, Aytar, Tompson, Sermanet, Zisserman 2021, "With a Little Help from My Friends:
Nearest-Neighbor Contrastive Learning of Visual Representations", eq. 2 and 3, algorithm 1.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.memory import Queue, nearest
from unlabeled.objectives import info_nce
from unlabeled.parallel import gather


class NNCLR(Method):
    """The positive of a view is the nearest neighbor of the other view in a queue of embeddings.

    InfoNCE contrasts that neighbor with the predictions of all images of the batch. Embeddings of
    the first views enter the queue after the loss, as in algorithm 1, so that no image is its own
    neighbor. The softmax runs over predictions only: the paper names the term that runs over
    neighbors, too, and algorithm 1 omits it.

    Args:
        dim: width of embeddings and queue; 256 in the paper.
        hidden_dim: width of the projector's two hidden layers; 2048 in the paper.
        predictor_dim: width of the predictor's hidden layer; 4096 in the paper.
        queue_size: number of embeddings in the queue; 98304 in the paper.
        temperature: τ of the loss; the paper's 0.1.
        augment: random augmentation of each view (default: the data set's).
    """

    base_lr = {"lars": 0.3}
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "queue_size": 1024}}
    presets = {
        "paper": {  # with SimCLR's views
            "encoder": "resnet50", "size": 224, "dim": 256, "hidden_dim": 2048,
            "predictor_dim": 4096, "queue_size": 98304,
            "augment": SimCLRAugment((0.08, 1.0), strength=1.0, blur=0.5),
            "epochs": 1000, "batch_size": 4096, "optimizer": "lars", "lr": 4.8, "warmup_epochs": 10,
            "weight_decay": 1e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        predictor_dim: int = 512,
        queue_size: int = 4096,
        temperature: float = 0.1,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        hidden = mlp(self.encoder.dim, hidden_dim, hidden_dim, dim)
        self.projector = nn.Sequential(*hidden, nn.BatchNorm1d(dim))
        self.predictor = mlp(dim, predictor_dim, dim)
        self.queue = Queue(queue_size, dim)
        self.temperature, self.augment = temperature, augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """InfoNCE of each view's neighbor and the other view's prediction, mean of both."""
        z1, z2 = (self.project(x) for x in views)  # (B, dim) each
        p1, p2 = (gather(F.normalize(self.predictor(z).float(), dim=1)) for z in (z1, z2))
        z1, z2 = (F.normalize(z.detach().float(), dim=1) for z in (z1, z2))
        self.embeddings = z1
        n1, n2 = (gather(nearest(self.queue.rows, z)[:, 0]) for z in (z1, z2))
        return (info_nce(n1, p2, self.temperature) + info_nce(n2, p1, self.temperature)) / 2

    def update(self) -> None:
        """Enqueue the embeddings of the first views and dequeue the oldest."""
        self.queue.enqueue(self.embeddings)
