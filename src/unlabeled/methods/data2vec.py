"""data2vec: a general framework for self-supervised learning (Baevski et al. 2022), for images.

Baevski, Hsu, Xu, Babu, Gu, Auli 2022, "data2vec: A General Framework for Self-supervised Learning
in Speech, Vision and Language", section 3.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, ColorJitter, Compose, RandomResizedCrop
from unlabeled.augmentations.masks import blockwise_mask
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, linear
from unlabeled.encoders.vit import with_patch_features
from unlabeled.errors import UserError
from unlabeled.modality import Images


class Data2Vec(Method):
    """From a masked image, the student predicts what the teacher makes of the whole one.

    The teacher is a moving average of the student. A target is the mean of the outputs of its top
    K blocks at a masked patch, each normalized by LayerNorm without weights, and so is the mean,
    as in the authors' command for ViT-B. A linear layer predicts it. The student is the result.

    Args:
        mask_ratio: fraction of the patches that are masked, in blocks as in BEiT; the paper's 0.6.
        top_blocks: K; 6 of 12 in the paper (default: half of all).
        beta: β of the smooth L1 loss, below which it is quadratic; the paper's 2 for images.
        momentum: τ of the teacher at the start; 0.9998 throughout in the paper for ViT-B.
        final_momentum: τ at the end of the rise.
        ramp_end: fraction of training at which the linear rise of τ ends.
        shape: channels, height and width of the images (default: the data set's).
        weak: augmentation of the images (default: none); the paper crops, flips and jitters color.
    """

    modality = (Images,)
    default_encoder = {Images: "vit"}
    encoder_args = {"pool": "mean"}
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    recipes = {name: MINUTES | {"epochs": 12, "lr": 1e-3} for name in ("fashion_mnist", "cifar10")}
    presets = {
        "paper": {  # of the authors' command for ViT-B
            "encoder": "vit_base", "size": 224, "top_blocks": 6,
            "encoder_args": {"patch": 16, "pool": "mean", "drop_path": 0.25, "layer_scale": 1e-4},
            "weak": Compose([RandomResizedCrop(), ColorJitter(0.4, 0.4, 0.4, 0.0, p=1.0)]),
            "momentum": 0.999, "final_momentum": 0.9998, "ramp_end": 0.0,
            "epochs": 800, "batch_size": 2048, "optimizer": "adamw", "lr": 2e-3,
            "lr_scaling": "linear", "warmup_epochs": 10, "weight_decay": 0.05,
            "grad_clip_norm": 3.0,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        mask_ratio: float = 0.6,
        top_blocks: int | None = None,
        beta: float = 2.0,
        momentum: float = 0.99,
        final_momentum: float = 0.999,
        ramp_end: float = 0.3,
        shape: tuple[int, int, int] = (3, 32, 32),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        vit = with_patch_features(encoder)
        depth = len(vit.stages) - 1
        self.top_blocks = max(1, depth // 2) if top_blocks is None else top_blocks
        if self.top_blocks > depth:
            raise UserError(f"top_blocks is {top_blocks}, but the encoder has {depth} blocks")
        self.grid = shape[1] // vit.patch, shape[2] // vit.patch
        patches = self.grid[0] * self.grid[1]
        if patches < 2:
            raise UserError("one patch leaves none visible; give a smaller --patch")
        self.masked = max(1, min(patches - 1, round(mask_ratio * patches)))
        self.mask_token = nn.Parameter(torch.randn(vit.dim) * 0.02)
        self.head = nn.Linear(vit.dim, vit.dim)
        self.teacher = EMA(vit)
        rise = linear(momentum, final_momentum)
        self.momentum = lambda t: rise(min(1, t / ramp_end) if ramp_end else 1)
        self.beta, self.weak = beta, weak or Compose([])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W), and which of their patches are masked (B, N)."""
        x = self.weak(batch.x)
        return x, blockwise_mask(len(x), self.grid, self.masked, x.device)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Smooth L1 distance at masked patches, mean over dimensions."""
        x, masked = views
        predicted, target = self.predict(x, masked)[masked], self.targets(x)[masked]
        return F.smooth_l1_loss(predicted, target, beta=self.beta)  # (B · masked, dim) each

    def predict(self, x: Tensor, masked: Tensor) -> Tensor:
        """The student's predictions at all patches, (B, N, dim)."""
        return self.head(self.encoder.encode_patches(x, masked, self.mask_token)[1]).float()

    @torch.no_grad()
    def targets(self, x: Tensor) -> Tensor:
        """Normalized mean of the teacher's top K normalized blocks at all patches, (B, N, dim)."""
        teacher = self.teacher.module
        maps = itertools.accumulate(teacher.stages, lambda h, stage: stage(h), initial=x)  # type: ignore[arg-type]
        top = [h.flatten(2)[:, :, teacher.prefix :] for h in [*maps][-self.top_blocks :]]
        normal = [F.layer_norm(h.transpose(1, 2).float(), (h.shape[1],)) for h in top]
        mean = torch.stack(normal).mean(0)
        return F.layer_norm(mean, mean.shape[2:])

    def update(self) -> None:
        """Update the teacher."""
        self.teacher.update(self.encoder, self.momentum(self.progress))
