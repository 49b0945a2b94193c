"""MSN: masked siamese networks for label-efficient learning (Assran et al. 2022).

Assran et al. 2022, "Masked Siamese Networks for Label-Efficient Learning", section 3; PMSN: Assran
et al. 2023, "The Hidden Uniform Cluster Prior in Self-Supervised Learning".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.augmentations.image import halved
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, linear, sinkhorn
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.vit import ViT
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.parallel import mean_over


class MSN(Method):
    """Masked and focal views of an image are assigned to prototypes as its whole view is.

    Assignments are softmaxes of cosines. The target is that of a moving average of the network,
    sharpened, and by Sinkhorn-Knopp equal over prototypes, as in the authors' code. The mean
    assignment of the anchors, over all processes, is pulled to a prior. The target network's
    encoder is the result.

    Args:
        prototypes: K, number of prototypes; 1024 in the paper.
        dim: width of the projection; 256 in the paper.
        hidden_dim: width of the two hidden layers of the projector; 2048 in the paper.
        mask_ratio: fraction of patches that the masked anchor does not see; 0.15 for ViT-S.
        local_crops: number of focal anchors, which are not masked; 10 in the paper.
        temperature: τ of the assignments; the paper's 0.1.
        sharpening: T, exponent 1/T of the target's probabilities; the paper's 0.25.
        prior_weight: λ of the divergence of the mean assignment from the prior; the paper's 1.
        prior_exponent: of PMSN's prior k^−τ of the k-th prototype, 0.25 in its paper; 0 is the
            uniform one of MSN, whose divergence is ln K less the mean entropy.
        sinkhorn_iterations: of the targets (default: 3, or 0 unless the prior is uniform).
        momentum: of the target network, rising linearly to 1; 0.996 in the paper.
        local_augment: augmentation of a focal crop, which is halved in size unless it is smaller.
        augment: augmentation of the target and of the masked anchor (default: the data set's).
    """

    modality = (Images,)
    default_encoder = {Images: "vit"}
    may_be_zero = ("local_crops",)
    recipe = Recipe(epochs=100, batch_size=128, lr=1e-3, weight_decay=0.04, grad_clip_norm=3.0)
    recipes = {"dsprites": MINUTES | {"epochs": 12, "lr": 1e-3, "prototypes": 64, "local_crops": 0}}
    presets = {
        "paper": {
            "encoder": "vit_small", "encoder_args": {"patch": 16}, "size": 224,
            "prototypes": 1024, "dim": 256, "hidden_dim": 2048, "local_crops": 10,
            "momentum": 0.996, "augment": SimCLRAugment((0.3, 1.0), strength=0.5, blur=0.5),
            "local_augment": SimCLRAugment((0.05, 0.3), strength=0.5, blur=0.5, size=96),
            "epochs": 800, "batch_size": 1024, "optimizer": "adamw", "lr": 1e-3, "final_lr": 1e-6,
            "lr_scaling": "linear", "warmup_epochs": 15, "weight_decay": 0.04,
            "final_weight_decay": 0.4,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        prototypes: int = 256,
        dim: int = 128,
        hidden_dim: int = 512,
        mask_ratio: float = 0.15,
        local_crops: int = 2,
        temperature: float = 0.1,
        sharpening: float = 0.25,
        prior_weight: float = 1.0,
        prior_exponent: float = 0.0,
        sinkhorn_iterations: int | None = None,
        momentum: float = 0.99,
        local_augment: Augmentation | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if not isinstance(encoder, ViT):
            raise UserError("MSN drops patches, which needs a transformer: use --encoder vit")
        self.patch, self.mask_ratio = encoder.patch, mask_ratio
        self.anchor_encoder = encoder
        self.projector = mlp(encoder.dim, hidden_dim, hidden_dim, dim)
        self.target = EMA(nn.Sequential(encoder, self.projector))
        self.encoder = self.target.module[0]  # type: ignore[index]
        self.prototypes = nn.Parameter((2 * torch.rand(prototypes, dim) - 1) / dim**0.5)
        prior = torch.arange(1.0, prototypes + 1) ** -prior_exponent
        self.log_prior: Tensor
        self.register_buffer("log_prior", (prior / prior.sum()).log(), persistent=False)
        self.temperature, self.sharpening = temperature, sharpening
        self.prior_weight, self.momentum = prior_weight, linear(momentum, 1.0)
        usual = 0 if prior_exponent else 3
        self.sinkhorn_iterations = usual if sinkhorn_iterations is None else sinkhorn_iterations
        self.local_crops = local_crops
        self.local_augment = local_augment or SimCLRAugment(scale=(0.05, 0.3))
        self.augment = augment or SimCLRAugment(scale=(0.3, 1.0))

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """A target and an anchor (B, C, H, W), the anchor's visible patches (B, n), focal crops."""
        target, anchor = self.augment(batch.x), self.augment(batch.x)
        patches = (anchor.shape[2] // self.patch) * (anchor.shape[3] // self.patch)
        order = torch.rand(len(anchor), patches, device=anchor.device).argsort(1)
        visible = order[:, : max(1, int((1 - self.mask_ratio) * patches))]
        crops = (halved(self.local_augment(batch.x), batch.x) for _ in range(self.local_crops))
        return target, anchor, visible, *crops

    def project(self, x: Tensor) -> Tensor:
        return self.target(x)  # (B, dim)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of anchors and target, and λ times the divergence from the prior."""
        target, anchor, visible, *crops = views
        z = [self.projector(self.anchor_encoder.encode_visible(anchor, visible)[0])]
        if crops:
            z += self.projector(self.anchor_encoder(torch.cat(crops))).chunk(len(crops))
        log_p = torch.stack([self.scores(v).log_softmax(1) for v in z])  # (anchors, B, K)
        with torch.no_grad():  # p^(1/T) normalized is the softmax of scores over T
            sharp = (self.scores(self.target(target)) / self.sharpening).log_softmax(1)
            assigned = sinkhorn(sharp, self.sinkhorn_iterations)
        cross_entropy = -(assigned * log_p).sum(2).mean()
        mean = mean_over(log_p.exp().mean((0, 1)))  # (K,)
        divergence = -torch.special.entr(mean).sum() - (mean * self.log_prior).sum()
        return cross_entropy + self.prior_weight * divergence

    def scores(self, z: Tensor) -> Tensor:
        """Cosines of projections and prototypes, over τ, (B, K)."""
        with torch.autocast(z.device.type, enabled=False):
            prototypes = F.normalize(self.prototypes, dim=1)
            return F.normalize(z.float(), dim=1) @ prototypes.T / self.temperature

    def update(self) -> None:
        """Update the target network."""
        online = nn.Sequential(self.anchor_encoder, self.projector)
        self.target.update(online, self.momentum(self.progress))
