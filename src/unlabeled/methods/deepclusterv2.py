"""DeepCluster-v2: classify the clusters of the last epoch (Caron et al. 2020).

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin 2020, "Unsupervised Learning of Visual Features by
Contrasting Cluster Assignments", appendix B; DeepCluster: Caron, Bojanowski, Joulin, Douze 2018.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.augmentations.image import halved
from unlabeled.core import MINUTES, Batch, MemoryBank, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.memory import assign, spherical_kmeans
from unlabeled.parallel import process_count


class DeepClusterV2(Method):
    """After each epoch, k-means clusters the embeddings of all images; views predict their cluster.

    A memory bank has the embedding of each image's first view in the epoch, so that no further pass
    over the data is needed. The centers are the prototypes and stay for the epoch: classes need no
    matching to earlier ones. In the first epoch clusters and prototypes are random; the authors'
    code has a pass of the untrained network before.

    Args:
        dim: width of the projection; 128 in the paper.
        hidden_dim: width of the projector's hidden layer; 2048 in the paper.
        prototypes: number of clusters; 3000 in the paper.
        clusterings: number of clusterings, from different starts; 3 in the paper.
        temperature: τ of the prediction; the paper's 0.1.
        bank_size: rows of the memory bank, one for each training image; the data set's.
        local_crops: number of local crops of each image; 6 in the paper.
        local_augment: augmentation of a local crop, which is halved in size unless it is smaller.
        augment: random augmentation of each view (default: the data set's).
    """

    may_be_zero = ("local_crops",)
    base_lr = {"lars": 0.3}
    recipe = Recipe(epochs=100, batch_size=256, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "prototypes": 64}}
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "hidden_dim": 2048, "prototypes": 3000,
            "clusterings": 3, "local_crops": 6,
            "augment": SimCLRAugment((0.14, 1.0), strength=1.0, blur=0.5),
            "local_augment": SimCLRAugment((0.05, 0.14), strength=1.0, blur=0.5, size=96),
            "epochs": 800, "batch_size": 4096, "optimizer": "lars", "lr": 4.8, "final_lr": 4.8e-3,
            "warmup_epochs": 10, "weight_decay": 1e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        prototypes: int = 300,
        clusterings: int = 1,
        temperature: float = 0.1,
        bank_size: int = 10_000,
        local_crops: int = 0,
        local_augment: Augmentation | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp(self.encoder.dim, hidden_dim, dim)
        self.bank = MemoryBank(bank_size, dim, momentum=0.0)
        drawn = torch.randn(clusterings, prototypes, dim)
        self.prototypes: Tensor
        self.register_buffer("prototypes", F.normalize(drawn, dim=2))
        self.clusters: Tensor
        self.register_buffer("clusters", torch.randint(prototypes, (clusterings, bank_size)))
        self.seen: Tensor  # images in this epoch, and epochs before
        self.register_buffer("seen", torch.zeros(2, dtype=torch.long))
        self.temperature, self.local_crops = temperature, local_crops
        self.local_augment = local_augment or SimCLRAugment(scale=(0.05, 0.14))
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Rows of the images (B,), two views (B, C, H, W), and local crops (B, C, H/2, W/2)."""
        crops = (halved(self.local_augment(batch.x), batch.x) for _ in range(self.local_crops))
        return batch.index, self.augment(batch.x), self.augment(batch.x), *crops

    def project(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of the similarities to the prototypes and the image's cluster."""
        index, first, second, *crops = views
        z = self.project(torch.cat([first, second]))
        if crops:
            z = torch.cat([z, self.project(torch.cat(crops))])
        z = F.normalize(z.float(), dim=1)  # (views · B, dim)
        self.embeddings = index, z[: len(index)].detach()
        with torch.autocast(z.device.type, enabled=False):
            scores = z @ self.prototypes.mT / self.temperature  # (clusterings, views · B, K)
        targets = self.clusters[:, index].repeat(1, len(views) - 1)
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())

    def update(self) -> None:
        """Update the memory bank; cluster it after an epoch, whose incomplete batch is left out."""
        self.bank.update(*self.embeddings)
        rows = len(self.embeddings[0]) * process_count()
        self.seen[0] += rows
        if self.seen[0] + rows > len(self.bank.rows):
            self.seen[0], self.seen[1] = 0, self.seen[1] + 1
            for number, (prototypes, clusters) in enumerate(
                zip(self.prototypes, self.clusters, strict=True)
            ):
                seed = int(self.seen[1]) * len(self.prototypes) + number
                prototypes.copy_(spherical_kmeans(self.bank.rows, len(prototypes), seed))
                clusters.copy_(assign(self.bank.rows, prototypes))
