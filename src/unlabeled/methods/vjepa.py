"""V-JEPA: revisiting feature prediction for learning from video (Bardes et al. 2024).

Bardes, Garrido, Ponce, Chen, Rabbat, LeCun, Assran, Ballas 2024, "Revisiting Feature Prediction for
Learning Visual Representations from Video", section 3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, Compose, RandomResizedCrop
from unlabeled.augmentations.masks import block_unions, choose_patches, draw_block_size
from unlabeled.augmentations.video import augment_clips
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, linear
from unlabeled.encoders.decoders import BlockPredictor
from unlabeled.encoders.vit_video import require_video_encoder
from unlabeled.errors import UserError
from unlabeled.modality import Images, Video

ASPECT = (0.75, 1.5)
"""Range of the aspect ratio of a block (section 3.2)."""


class VJEPA(Method):
    """From visible patches of a clip, representations of masked space-time blocks are predicted.

    The context encoder sees the patches outside of a union of blocks, each of which spans all
    frames; a narrow transformer predicts the patches inside from these and from their positions.
    This is done for many small blocks and for a few large ones. Targets are those of a moving
    average of the encoder that sees the whole clip, normalized by LayerNorm without weights. The
    target encoder is the result.

    Blocks have one size in a batch, as in the authors' code. To have equal numbers, of the larger
    contexts and unions of a batch random patches are left out, in theirs the last ones. Both kinds
    of masks share a mask token, as in the paper; in the code each has its own.

    Args:
        short_blocks: number of small blocks; the paper's 8.
        short_scale: area of each as a fraction of the frame's; the paper's 0.15.
        long_blocks: number of large blocks; the paper's 2.
        long_scale: area of each as a fraction of the frame's; the paper's 0.7.
        predictor_width: width of the predictor; the paper's 384.
        predictor_depth: blocks of the predictor; the paper's 12.
        momentum: of the target encoder, rising linearly to 1; the paper's 0.998. In the authors'
            code this and other schedules are those of a training 1.25 times as long.
        shape: channels, height and width of the frames (default: the data set's).
        weak: geometric augmentation, the same for all frames of a clip (default: none); the
            authors' code crops and flips.
    """

    max_frame_stride = 4
    modality = (Video,)
    default_encoder = {Images: "vit_video"}
    # The batch size counts frames, and an epoch reads as many as there are.
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    recipes = {"colored_sprites": MINUTES | {"epochs": 40, "batch_size": 128, "lr": 1e-3}}
    presets = {
        "paper": {  # ViT-L/16: 3072 clips of 16 frames; epochs of 300 updates as in the code
            "encoder": "vit_video", "size": 224, "predictor_width": 384, "predictor_depth": 12,
            "encoder_args": {"frames": 16, "patch": 16, "width": 1024, "depth": 24, "heads": 16},
            "weak": RandomResizedCrop((0.3, 1.0), (0.75, 1.35)), "momentum": 0.998,
            "epochs": 300, "batch_size": 49152, "optimizer": "adamw", "lr": 6.25e-4,
            "final_lr": 1e-6, "warmup_epochs": 40, "weight_decay": 0.04,
            "final_weight_decay": 0.4, "grad_clip_norm": 10.0,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        short_blocks: int = 8,
        short_scale: float = 0.15,
        long_blocks: int = 2,
        long_scale: float = 0.7,
        predictor_width: int = 96,
        predictor_depth: int = 2,
        momentum: float = 0.99,
        shape: tuple[int, int, int] = (3, 64, 88),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        video, self.grid = require_video_encoder(encoder, "vjepa", shape)
        if min(self.grid) < 4:
            raise UserError(
                f"{self.grid[0]}×{self.grid[1]} patches are too few for blocks of them; give a "
                "smaller --patch, so that there are at least 4×4"
            )
        self.clip_length, self.context_encoder = video.frames, video
        self.target_encoder = EMA(video)
        self.encoder = self.target_encoder.module
        cube = video.slots, *self.grid
        self.predictor = BlockPredictor(video.dim, predictor_width, predictor_depth, cube)
        self.masks = (short_blocks, short_scale), (long_blocks, long_scale)
        self.momentum, self.weak = linear(momentum, 1.0), weak or Compose([])

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Frames (B, C, H, W); of each kind of mask, visible patches (B, n) and masked ones (B, k)
        of a frame, the same for all frames of a clip.
        """
        clips = augment_clips(batch.x, self.clip_length, self.weak)
        patches = []
        for blocks, scale in self.masks:
            size = draw_block_size(self.grid, (scale, scale), ASPECT)
            masked = block_unions(len(clips), self.grid, size, blocks, clips.device)
            patches += [choose_patches(~masked), choose_patches(masked)]
        of_frames = (p.repeat_interleave(self.clip_length, 0) for p in patches)
        return clips.flatten(0, 1), *of_frames

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Mean absolute difference of predicted and target representations, mean over masks."""
        frames, *patches = views
        clips = frames.unflatten(0, (-1, self.clip_length))
        target, losses = self.represent(clips), []
        for places in zip(patches[::2], patches[1::2], strict=True):
            visible, masked = (
                self.encoder.over_time(p[:: self.clip_length], self.grid) for p in places
            )
            index = masked[:, :, None].expand(-1, -1, target.shape[2])
            losses.append(F.l1_loss(self.predict(clips, visible, masked), target.gather(1, index)))
        return torch.stack(losses).mean()

    def predict(self, clips: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """Predicted representations of masked patches (n, k) from visible ones (n, m), (n, k, dim).

        Both are indices of patches of clips (n, T, C, H, W).
        """
        tokens = self.context_encoder.encode_visible(clips, visible)
        return self.predictor(tokens, visible, masked[:, None])[:, 0].float()

    @torch.no_grad()
    def represent(self, clips: Tensor) -> Tensor:
        """The target encoder's patches of whole clips, normalized, (n, N, dim)."""
        tokens = self.encoder.encode_all(clips).float()
        return F.layer_norm(tokens, tokens.shape[2:])

    def update(self) -> None:
        """Update the target encoder."""
        self.target_encoder.update(self.context_encoder, self.momentum(self.progress))
