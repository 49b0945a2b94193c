"""VideoMAE: masked autoencoders are data-efficient learners of video (Tong et al. 2022).

Tong, Song, Wang, Wang 2022, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for
Self-Supervised Video Pre-Training", section 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, Compose, RandomResizedCrop
from unlabeled.augmentations.video import augment_clips
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.decoders import MAEDecoder, fixed_positions
from unlabeled.encoders.vit_video import require_video_encoder
from unlabeled.errors import UserError
from unlabeled.modality import Images, Video


class VideoMAE(Method):
    """A transformer encodes a few tubes of a clip; a small decoder reconstructs the others.

    The same patches are masked in all frames, so that a masked one is not seen a frame later. The
    encoder gets visible patches only. The target is each patch of a few frames normalized by its
    mean and standard deviation, in each color by itself as in the authors' code; the loss is on
    masked ones alone. Positions are fixed, in three dimensions as in V-JEPA, where the authors'
    code has one for the index of a patch.

    Args:
        mask_ratio: fraction of the patches of a frame that are masked; the paper's 0.9.
        normalize_pixels: whether the target is normalized.
        decoder_width: width of the decoder; 384 in the code for ViT-B, in heads of 64 dimensions,
            which are of 32 here.
        decoder_depth: blocks of the decoder; the paper's 4.
        shape: channels, height and width of the frames (default: the data set's).
        weak: geometric augmentation, the same for all frames of a clip (default: none); the
            authors' code crops.
    """

    max_frame_stride = 4
    may_be_zero = ("decoder_depth",)
    modality = (Video,)
    default_encoder = {Images: "vit_video"}
    # The batch size counts frames, and an epoch reads as many as there are.
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    recipes = {"colored_sprites": MINUTES | {"epochs": 40, "batch_size": 128, "lr": 1e-3}}
    presets = {
        "paper": {  # the authors' command for Kinetics-400: 2048 clips of 16 frames, one a video
            "encoder": "vit_video", "size": 224, "decoder_width": 384, "decoder_depth": 4,
            "encoder_args": {"frames": 16, "patch": 16, "width": 768, "depth": 12, "heads": 12},
            "weak": RandomResizedCrop((0.44, 1.0), (0.86, 1.17), flip=0.0),
            "epochs": 800, "batch_size": 32768, "optimizer": "adamw", "lr": 1.2e-3, "beta2": 0.95,
            "lr_scaling": "linear", "final_lr": 8e-5, "warmup_epochs": 40, "weight_decay": 0.05,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        mask_ratio: float = 0.9,
        normalize_pixels: bool = True,
        decoder_width: int = 96,
        decoder_depth: int = 2,
        shape: tuple[int, int, int] = (3, 64, 88),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if not 0 < mask_ratio < 1:
            raise UserError(f"mask_ratio is {mask_ratio}, but must be above 0 and below 1")
        video, self.grid = require_video_encoder(encoder, "videomae", shape)
        self.clip_length, self.tubelet, self.patch_size = video.frames, video.tubelet, video.patch
        places = math.prod(self.grid)
        self.visible = min(places - 1, max(1, round((1 - mask_ratio) * places)))
        cube = video.slots, *self.grid
        pixels = shape[0] * video.tubelet * video.patch**2
        sizes = decoder_width, decoder_depth, math.prod(cube), pixels
        self.decoder = MAEDecoder(video.dim, *sizes, fixed_positions(decoder_width, cube))
        self.normalize_pixels = normalize_pixels and pixels > shape[0]  # of several values each
        self.weak = weak or Compose([])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Frames (B, C, H, W), and a random order of their patches (B, rows · columns), visible
        ones first, the same for all frames of a clip.
        """
        clips = augment_clips(batch.x, self.clip_length, self.weak)
        draws = torch.rand(len(clips), math.prod(self.grid), device=clips.device)
        return clips.flatten(0, 1), draws.argsort(1).repeat_interleave(self.clip_length, 0)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of the masked patches."""
        clips, order = self.as_clips(views)
        masked = self.encoder.over_time(order[:, self.visible :], self.grid)[:, :, None]
        drawn, target = self.reconstruct(clips, order), self.targets(clips)
        index = masked.expand(-1, -1, target.shape[2])
        return F.mse_loss(drawn.gather(1, index), target.gather(1, index))

    def as_clips(self, views: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Views as clips (n, T, C, H, W) with an order of patches (n, rows · columns) each."""
        frames, order = views
        return frames.unflatten(0, (-1, self.clip_length)), order[:: self.clip_length]

    def reconstruct(self, clips: Tensor, order: Tensor) -> Tensor:
        """Reconstructions of all patches of clips (n, T, C, H, W), (n, N, C·t·p·p)."""
        visible = self.encoder.over_time(order[:, : self.visible], self.grid)
        tokens = self.encoder.encode_visible(clips, visible)  # (n, slots · visible, dim)
        return self.decoder(None, tokens.transpose(1, 2), visible).float()

    def patchify(self, clips: Tensor) -> Tensor:
        """(n, T, C, H, W) -> (n, N, C, t·p·p), slot after slot."""
        t, p, (rows, columns) = self.tubelet, self.patch_size, self.grid
        x = clips[..., : rows * p, : columns * p].unflatten(4, (columns, p)).unflatten(3, (rows, p))
        x = x.unflatten(1, (-1, t)).permute(0, 1, 4, 6, 3, 2, 5, 7)  # slot, row, column, C, t, p, p
        return x.flatten(5).flatten(1, 3)

    def targets(self, clips: Tensor) -> Tensor:
        """Patches to be reconstructed, (n, N, C·t·p·p)."""
        x = self.patchify(clips).float()
        if self.normalize_pixels:
            x = (x - x.mean(3, keepdim=True)) / (x.std(3, keepdim=True) + 1e-6)
        return x.flatten(2)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        if len(x) < self.clip_length:
            return {}
        x, (rows, columns) = x[: self.clip_length], self.grid
        clips, order = self.as_clips(self.views(Batch(x, torch.arange(len(x), device=x.device))))
        true = self.patchify(clips)
        drawn = self.reconstruct(clips, order).view_as(true)
        if self.normalize_pixels:  # denormalized by the true statistics
            drawn = drawn * (true.std(3, keepdim=True) + 1e-6) + true.mean(3, keepdim=True)
        hidden = torch.ones(len(true), rows * columns, device=x.device)
        hidden = hidden.scatter_(1, order[:, : self.visible], 0).bool()
        hidden = hidden.repeat(1, self.encoder.slots)[:, :, None, None]
        sheet = [true, torch.where(hidden, 0.5, true), torch.where(hidden, drawn.clamp(0, 1), true)]
        return {"frame, masked, reconstruction": torch.stack([*map(self.unpatchify, sheet)], 1)}

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Patches of one clip (1, N, C, t·p·p) as frames (T, C, rows · p, columns · p)."""
        t, p, (rows, columns) = self.tubelet, self.patch_size, self.grid
        x = patches[0].unflatten(0, (-1, rows, columns)).unflatten(4, (t, p, p))
        return x.permute(0, 4, 3, 1, 5, 2, 6).flatten(5).flatten(3, 4).flatten(0, 1)
