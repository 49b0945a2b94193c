"""Transfer: detection and segmentation of scenes by a small head on an encoder's maps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import one_cycle
from unlabeled.data.dataset import to_float
from unlabeled.data.sets.dsprites import SHAPES
from unlabeled.data.sets.scenes import Scenes
from unlabeled.errors import UserError, reason
from unlabeled.evaluation.overlap import Boxes, average_precision, mask_iou
from unlabeled.utils.state import preserve_rng

STRIDE = 4
"""Stride in pixels of the finest map that the head receives."""
WIDTH = 32
BATCH = 32
RATE, GENTLE = 4e-3, 0.1
"""Peak learning rate of the head, and what part of it a trained encoder gets (DeepLab, Chen et al.
2018: the last layer learns ten times as fast as those before)."""
SPREAD = 0.54 / 6
"""Deviation of the heat around a center, as a part of the box (TTFNet, Liu et al. 2020)."""
NEAR = 1.5
"""Cells around a center whose box is learned (FCOS, Tian et al. 2019: center sampling)."""
MOST = 20
"""Detections in an image."""
OUTPUTS = [1 + len(SHAPES), len(SHAPES), 4]


class Dense(nn.Module):
    """An encoder and a head on its maps: what each pixel shows, and where boxes are.

    The maps of stride 4 and above are brought to one width and added from the last to the first, as
    in a feature pyramid (Lin et al. 2017); each of the two tasks has a 3×3 convolution of its own.

    Args:
        encoder: with `stages`; they are copied.
        shape: channels, height and width of the scenes.
        freeze: the encoder stays in eval mode and learns nothing.

    Raises:
        UserError: the encoder has no stages, or cannot take such images.
    """

    def __init__(self, encoder: nn.Module, shape: tuple[int, ...], *, freeze: bool) -> None:
        super().__init__()
        if not isinstance(stages := getattr(encoder, "stages", None), nn.ModuleList):
            raise UserError("transfer needs an encoder with stages, such as small or resnet18")
        if getattr(encoder, "prefix", 0):
            raise UserError(
                "transfer needs maps, but this encoder has tokens before those of the patches; "
                "give one without class token and registers, such as small or vit"
            )
        self.stages = copy.deepcopy(stages).requires_grad_(not freeze).eval()
        self.freeze = freeze
        device = next((p.device for p in stages.parameters()), torch.device("cpu"))
        try:
            maps = self.maps(torch.zeros(1, *shape, device=device))
        except RuntimeError as error:
            raise UserError(
                f"the encoder cannot take scenes of {shape}: {reason(error)}"
            ) from error
        self.lateral = nn.ModuleList(_convolution(m.shape[1], WIDTH, 1) for m in maps)
        # Shapes and centers are rare: both start at 0.1, as CenterNet's (Zhou et al. 2019).
        self.segment = _branch([0.0] + [-2.19] * len(SHAPES))
        self.detect = _branch([-2.19] * len(SHAPES) + [0.0] * 4)
        self.to(device)

    def train(self, mode: bool = True) -> Dense:
        """Train mode, but of a frozen encoder."""
        super().train(mode)
        if self.freeze:
            self.stages.eval()
        return self

    def maps(self, x: Tensor) -> list[Tensor]:
        """Maps of the encoder of at most a quarter of the image's side; the last at least."""
        side, batches = x.shape[-1] / STRIDE, []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            for stage in self.stages:
                x = stage(x)
                batches.append(x)
        return [m for m in batches[:-1] if m.shape[-1] <= side] + batches[-1:]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What scenes (B, C, S, S) show.

        Returns:
            logits of background and shapes at each pixel (B, 4, S, S); logits of a center of each
            shape (B, 3, H, W); box (B, 4, H, W) seen from each cell, in pixels of the scene.
        """
        size, maps = x.shape[-2:], self.maps(x)
        top = self.lateral[-1](maps[-1])
        for lateral, below in zip(self.lateral[-2::-1], maps[-2::-1], strict=True):
            top = lateral(below) + F.interpolate(top, below.shape[-2:])
        top = F.relu(top)  # (B, WIDTH, H, W)
        pixels = F.interpolate(self.segment(top), size, mode="bilinear")
        heat, sides = self.detect(top).split(OUTPUTS[1:], 1)
        cell = size[0] / sides.shape[-1]
        y = x = cell * (torch.arange(sides.shape[-1], device=sides.device) + 0.5)
        left, up, right, down = (cell * sides.clamp(max=6).exp()).unbind(1)
        box = torch.stack([x - left, y[:, None] - up, x + right, y[:, None] + down], 1)
        return pixels, heat, box


def learn(
    encoder: nn.Module,
    scenes: Scenes,
    *,
    freeze: bool,
    epochs: int,
    seed: int = 0,
    rate: float = GENTLE,
) -> tuple[Dense, list[float]]:
    """A head on a copy of the encoder, trained for both tasks at once.

    AdamW and one cycle of the learning rate. Fine-tuned, BatchNorm learns too, as in MoCo (He et
    al. 2020); frozen, its statistics stay what they were.

    Args:
        encoder: with `stages`.
        scenes: to learn from.
        freeze: only the head learns.
        epochs: passes over the scenes, in batches of 32.
        seed: of the head's weights and the order.
        rate: learning rate of the encoder, as a part of the head's; 1 for random weights.

    Returns:
        the model in eval mode, and the mean loss of each epoch.

    Raises:
        UserError: nothing to learn, or an encoder that has no stages or cannot take the scenes.
    """
    if epochs < 1:
        raise UserError(f"epochs is {epochs}, but must be at least 1")
    with preserve_rng(seed):
        model = Dense(encoder, scenes.x.shape[1:], freeze=freeze).train()
    device = next(model.parameters()).device
    head = [p for name, p in model.named_parameters() if not name.startswith("stages.")]
    groups = [{"params": head, "part": 1.0}]
    if not freeze:
        groups.append({"params": list(model.stages.parameters()), "part": rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    batch = min(BATCH, len(scenes))
    steps, schedule = len(scenes) // batch, one_cycle()
    losses = []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(scenes))
        total = 0.0
        for step in range(steps):
            progress = (epoch * steps + step + 0.5) / (epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = RATE * group["part"] * schedule(progress)
            rows = order[step * batch : (step + 1) * batch]
            loss = _loss(model, scenes.take(rows), device)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
        losses.append(total / steps)
    return model.eval(), losses


def measure(model: Dense, scenes: Scenes) -> dict[str, Any]:
    """Figures of both tasks, all shares of 1.

    Returns:
        `iou` of each shape and the background, over the pixels of all scenes; `miou`, its mean over
        the shapes; `ap50`, `ap`: average precision at an IoU of 0.5 and its mean from 0.5 to 0.95,
        means over the shapes; `ap50_of` each shape.
    """
    masks, detections = predict(model, scenes.x)
    iou = mask_iou(masks, scenes.masks, OUTPUTS[0])
    precision = np.array(
        [average_precision(detections, scenes.boxes, scenes.classes, c) for c in range(len(SHAPES))]
    )  # (3, thresholds)
    return {
        "miou": float(np.nanmean(iou[1:])),
        "iou": dict(zip(("background", *SHAPES), iou.tolist(), strict=True)),
        "ap50": float(np.nanmean(precision[:, 0])),
        "ap": float(np.nanmean(precision)),
        "ap50_of": dict(zip(SHAPES, precision[:, 0].tolist(), strict=True)),
    }


@torch.no_grad()
def predict(model: Dense, x: np.ndarray) -> tuple[np.ndarray, Boxes]:
    """Masks uint8 (N, S, S) and at most 20 boxes of each scene, from uint8 (N, C, S, S).

    Boxes are where the heat is highest among its 3×3 cells (CenterNet); nothing else is suppressed.
    """
    device = next(model.parameters()).device
    masks, boxes, scores, classes = [], [], [], []
    for start in range(0, len(x), 100):
        part = to_float(torch.from_numpy(x[start : start + 100]).to(device), (0, 1))
        pixels, heat, box = model(part)
        masks.append(pixels.argmax(1).byte())
        peak = heat.sigmoid() * (F.max_pool2d(heat, 3, 1, 1) == heat)
        score, index = peak.flatten(1).topk(min(MOST, peak[0].numel()))  # (B, D)
        cells = heat[0, 0].numel()
        chosen = (index % cells)[:, None].expand(-1, 4, -1)
        boxes.append(box.flatten(2).gather(2, chosen).mT.clamp(0, x.shape[-1]))
        scores.append(score)
        classes.append(torch.where(score > 0, index // cells, -1))
    together = [torch.cat(v).cpu().numpy() for v in (masks, boxes, scores, classes)]
    return together[0], Boxes(*together[1:])


def _loss(model: Dense, scenes: Scenes, device: torch.device) -> Tensor:
    """Cross-entropy of the pixels, focal loss of the centers, 1 − GIoU of the boxes."""
    x, masks, boxes, classes = (
        torch.from_numpy(v).to(device)
        for v in (scenes.x, scenes.masks, scenes.boxes, scenes.classes)
    )
    pixels, heat, box = model(to_float(x, (0, 1)))
    target, size, near = targets(boxes, classes, heat.shape[-1], x.shape[-1])
    # Almost all is background: each sum is divided by what there is to find.
    entropy = F.cross_entropy(pixels, masks.long(), reduction="sum") / (masks > 0).sum().clamp(1)
    overlap = giou(box.movedim(1, -1)[near], size[near])
    return entropy + focal(heat, target) + (1 - overlap).sum() / near.sum().clamp(1)


def targets(boxes: Tensor, classes: Tensor, cells: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the cells of a scene should say.

    Args:
        boxes: true ones (B, K, 4) in pixels.
        classes: theirs (B, K), −1 for none.
        cells: H = W, along a side.
        side: of the scene in pixels.

    Returns:
        heat (B, 3, H, W): 1 at the cell of a center, a bell around it; the smallest box (B, H, W,
        4) whose center is within 1.5 cells and whose inside holds the cell's center; and whether
        there is one (B, H, W).
    """
    cell = side / cells
    middle, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    is_box = classes >= 0
    steps = torch.arange(cells, device=boxes.device)
    home = (middle / cell).floor()  # (B, K, 2)
    spread = (SPREAD * sides / cell).clamp(min=0.1)
    bell = (-(((steps[:, None] - home[:, :, None]) / spread[:, :, None]) ** 2) / 2).exp()
    bells = bell[..., 1][..., :, None] * bell[..., 0][..., None, :]  # (B, K, H, W)
    of_class = [(bells * (classes == c)[..., None, None]).amax(1) for c in range(len(SHAPES))]
    away = (cell * (steps + 0.5)[:, None] - middle[:, :, None]).abs()  # (B, K, cells, 2)
    close = (away < NEAR * cell) & (away < sides[:, :, None] / 2) & is_box[..., None, None]
    near = close[..., 1][..., :, None] & close[..., 0][..., None, :]  # (B, K, H, W)
    area = sides.prod(-1)[..., None, None].masked_fill(~near, torch.inf)
    smallest = area.argmin(1)  # (B, H, W)
    images = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    return torch.stack(of_class, 1), boxes[images, smallest], near.any(1)


def focal(logits: Tensor, heat: Tensor) -> Tensor:
    """CornerNet's focal loss (Law, Deng 2018, equation 1), α = 2, β = 4, a mean over the centers.

    Both (B, classes, H, W).
    """
    p, is_center = logits.sigmoid(), heat == 1
    here = (1 - p) ** 2 * F.logsigmoid(logits)
    elsewhere = (1 - heat) ** 4 * p**2 * F.logsigmoid(-logits)
    return -torch.where(is_center, here, elsewhere).sum() / is_center.sum().clamp(1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised intersection over union of boxes (N, 4) each (Rezatofighi et al. 2019)."""
    both = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(0).prod(1)
    hull = (torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])).prod(1)
    area_a, area_b = ((v[:, 2:] - v[:, :2]).prod(1) for v in (a, b))
    either = area_a + area_b - both
    return both / either - (hull - either) / hull


def _convolution(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """BatchNorm equalizes the scales of different encoders' maps."""
    convolution = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out))


def _branch(start: list[float]) -> nn.Sequential:
    """As many outputs as biases to start from."""
    last = nn.Conv2d(WIDTH, len(start), 1)
    last.bias = nn.Parameter(torch.tensor(start))
    return nn.Sequential(_convolution(WIDTH, WIDTH, 3), nn.ReLU(), last)
