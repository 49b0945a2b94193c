"""Video: propagation of colors, masks and key points by video colorization."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.color import lab_to_rgb, rgb_to_lab, to_gray
from unlabeled.data.dataset import Samples, Splits, all_samples, to_float
from unlabeled.data.open import open_data
from unlabeled.data.sets import colored_sprites
from unlabeled.encoders.features import embed
from unlabeled.evaluation.factors import probe_factors
from unlabeled.evaluation.probe import linear_probe
from unlabeled.methods.video_colorization import VideoColorization
from unlabeled.objectives.propagation import propagate_labels
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, TitledImages
from unlabeled.training.train import reopen
from unlabeled.utils import drawing

TITLE = "Video: learning correspondences by colorization"
LEAD = (
    "To color the frames of a grayscale video from its first ones, a network has to learn which "
    "pixel corresponds to which. With these correspondences it can propagate any label, not only "
    "colors."
)
DATA = "video"
CLAIMS: dict[int, str] = {}
AHEAD = 10
"""Frames over which labels are propagated."""
RADIUS, TEMPERATURE = 10, 0.03
RECENT = 2
EVERY = 20
"""Propagation restarts at every twentieth frame."""
PATCH, PATCH_TEMPERATURE = 7, 0.025
"""Side of gray patches, and the temperature of their similarity."""
HALVES = ("first", "second")


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    #: pieces of each shot over which colors are propagated (default: all)
    pieces: int | None = None
    sprite_clips: int = 60  #: test clips of sprites
    video: Any = "video"  #: data of video
    colored_sprites: Any = "colored_sprites"  #: data of colored sprites
    moving_sprites: Any = "moving_sprites"  #: data of moving sprites


SETTINGS, QUICK = Settings(), Settings(pieces=1, sprite_clips=10)


def half(lab: Lab, number: int) -> Splits:
    """Every second shot for training, the others for testing."""
    splits = open_data(lab.settings.video)
    both = all_samples(splits)
    mine = both.factors["shot"] % 2 == number
    train, test = (both.take(np.flatnonzero(rows)) for rows in (mine, ~mine))
    return Splits(f"video: {HALVES[number]} half", train, test, "shot")


def on_videos(lab: Lab, number: int) -> Any:
    """Video colorization trained on one half of the shots."""
    name, data = f"videos-{HALVES[number]}", half(lab, number)
    return reopen(lab.run(name, "video_colorization", data=data, quick_epochs=2))


def on_sprites(lab: Lab) -> Any:
    data = open_data(lab.settings.colored_sprites)
    return reopen(lab.run("sprites", "video_colorization", data=data, quick_epochs=1))


def untrained(lab: Lab, size: tuple[int, int]) -> Any:
    """The same networks with random weights."""
    train, test = (Samples(np.zeros((n, 3, *size), np.uint8)) for n in (1, 0))
    splits = Splits("blank", train, test)
    encoder = lab.random("spatial_resnet", data=splits, gray=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000)
        return VideoColorization(encoder, shape=(3, *size)).eval()


def patches(x: Tensor) -> Tensor:
    """Embed each pixel by the gray patch around it: (T, 3, H, W) -> (T, 49, H, W)."""
    wide = F.pad(rgb_to_lab(x)[:, :1] / 100, [PATCH // 2] * 4, mode="replicate")
    return F.unfold(wide, PATCH).unflatten(2, x.shape[2:])


@torch.no_grad()
def propagated(methods: dict[str, Any], x: Tensor, first: Tensor) -> dict[str, Tensor]:
    """Labels of the first frame propagated by each method, by title (T, K, H, W)."""
    results = {"copied": first.expand(len(x), *first.shape)}
    options: dict[str, Any] = {"radius": RADIUS, "temperature": PATCH_TEMPERATURE}
    results["gray patches"] = propagate_labels(patches(x), first, **options)
    options["temperature"] = TEMPERATURE
    for title, method in methods.items():
        z = method.pixels(x)
        results[title] = propagate_labels(z, first, **options)
        if title == "learned":
            results["learned, recent frames too"] = propagate_labels(
                z, first, recent=RECENT, **options
            )
    return results


def clips(part: Samples, shot: int) -> list[Tensor]:
    """Pieces of a shot as images (at most 11, 3, H, W) in [0, 1]."""
    rows = np.flatnonzero(part.factors["shot"] == shot)
    rows = rows[np.argsort(part.factors["frame"][rows])]
    return [
        to_float(torch.from_numpy(part.x[rows[start : start + AHEAD + 1]]), (0.0, 255.0))
        for start in range(0, max(1, len(rows) - AHEAD), EVERY)
    ]


def colors(lab: Lab, number: int) -> Finding:
    """Propagation of colors over ten frames of real videos, in test shots."""
    data = half(lab, number)
    methods = {"random": untrained(lab, data.size), "learned": on_videos(lab, number)}
    learned_from = [data.classes[s] for s in np.unique(data.train.factors["shot"])]
    errors: dict[str, dict[str, float]] = {}
    images: TitledImages = []
    for shot in np.unique(data.test.factors["shot"]):
        title = data.classes[shot]
        pieces = clips(data.test, shot)[: lab.settings.pieces]
        each: dict[str, list[float]] = {}
        for number_, x in enumerate(pieces):
            true = rgb_to_lab(x)[:, 1:]
            labels = propagated(methods, x, true[0])
            for way, ab in labels.items():
                wrong = (ab[1:] - true[1:]).norm(dim=1).mean((1, 2))
                each.setdefault(way, []).append(float(wrong.mean()))
                each.setdefault(f"{way}, last", []).append(float(wrong[-1]))
            if number_ == len(pieces) // 2:
                images += color_images(title, x, labels["learned"])
        errors[title] = {k: float(np.mean(v)) for k, v in each.items()}
    names = [k for k in next(iter(errors.values())) if not k.endswith("last")]
    mean = {way: float(np.mean([e[way] for e in errors.values()])) for way in names}
    worse = [shot for shot, e in errors.items() if e["learned"] >= e["copied"]]
    below_patches = [shot for shot, e in errors.items() if e["learned"] >= e["gray patches"]]
    return Finding(
        {"errors": errors, "mean": mean, "learned_from": learned_from,
         "not_better_than_copied": worse},
        f"The encoder is trained on the shots {'; '.join(learned_from)} and tested on the others. "
        f"The colors of a frame are propagated over the next {AHEAD} frames, always from the first "
        f"one, or (last column) also from the {RECENT} frames before. A pixel takes the color of "
        f"pixels within {RADIUS} pixels by a softmax of the cosine similarity over "
        f"{TEMPERATURE:g}. Radius and temperature were chosen on shots of both halves, including "
        f"these. Gray patches of {PATCH}×{PATCH} pixels are compared in the same way.",
        f"The mean error of colors is {mean['learned']:.2f} with learned features, "
        f"{mean['copied']:.2f} for copied colors and {mean['gray patches']:.2f} for gray patches, "
        "which are not learned. Learned features are not better than copying in "
        f"{'; '.join(worse) or 'no shot'}, and not better than gray patches in "
        f"{'; '.join(below_patches) or 'no shot'}.",
        [
            Table.of(caption, names, errors, dict.fromkeys((name + end for name in names), ".2f"))
            for caption, end in (
                (f"Mean error in a*, b* over {AHEAD} frames, by test shot", ""),
                ("Mean error in the last of these frames, by test shot", ", last"),
            )
        ],
        images,
    )  # fmt: skip


def color_images(shot: str, x: Tensor, ab: Tensor) -> TitledImages:
    """A sheet and an animation of propagated colors."""
    colored = lab_to_rgb(torch.cat([rgb_to_lab(x)[:, :1], ab], 1))
    rows = torch.stack([x[:1].expand_as(x), to_gray(x), colored, x], 1)[[1, 4, 7, -1]]
    return [
        (f"{shot}: first frame, gray, propagated colors, ground truth", drawing.image_sheet(rows)),
        (f"{shot}: gray, propagated colors, ground truth",
         drawing.gif(torch.stack([to_gray(x), colored, x]))),
    ]  # fmt: skip


def overlap(predicted: Tensor, true: Tensor, label: int) -> float:
    """Intersection over union of a label, averaged over the frames (T, H, W) that contain it."""
    a, b = predicted == label, true == label
    present = b.flatten(1).any(1)
    shared, either = (m.flatten(1).sum(1)[present] for m in (a & b, a | b))
    return float((shared / either).mean()) if present.any() else float("nan")


def center(heat: Tensor) -> Tensor:
    """Centroid (row, column) of heat maps (T, H, W): (T, 2)."""
    down, across = (torch.arange(side, dtype=torch.float32) for side in heat.shape[1:])
    total = heat.sum((1, 2)) + 1e-9
    return torch.stack([heat.sum(2) @ down / total, heat.sum(1) @ across / total], 1)


def v3(lab: Lab) -> Finding:
    """Propagation of masks and key points of moving sprites."""
    videos = colored_sprites.draw(lab.settings.sprite_clips, seed=1)
    methods = {
        "random": untrained(lab, (32, 32)),
        "learned from real videos": on_videos(lab, 0),
        "learned": on_sprites(lab),
    }
    results: dict[str, dict[str, list[float]]] = {}
    images: TitledImages = []
    for number in range(len(videos.x)):
        x = to_float(torch.from_numpy(videos.x[number]), (0.0, 255.0))
        true = torch.from_numpy(videos.masks[number]).long()
        masks = F.one_hot(true, 3).permute(0, 3, 1, 2).float()  # (T, 3, H, W)
        middle = center(masks[:, 2])
        point = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 2, indexing="ij"), 2)
        heat = (-(point - middle[0]).square().sum(2) / 8).exp()  # key point
        for way, labels in propagated(methods, x, torch.cat([masks[0], heat[None]])).items():
            predicted = labels[:, :3].argmax(1)
            figures = results.setdefault(way, {"front": [], "behind": [], "point": []})
            figures["front"].append(overlap(predicted[1:], true[1:], 2))
            figures["behind"].append(overlap(predicted[1:], true[1:], 1))
            off = (center(labels[:, 3])[1:] - middle[1:]).norm(dim=1)
            figures["point"].append(float(off.mean()))
            if way == "learned" and number < 4:
                images += mask_images(number, x, predicted, true)
    mean = {w: {k: float(np.nanmean(v)) for k, v in f.items()} for w, f in results.items()}
    ours, copied, patch = (mean[way] for way in ("learned", "copied", "gray patches"))
    caption = "Masks: intersection over union; key point: error in pixels"
    table = Table.of(caption, ["front", "behind", "key point"], mean, ".3f")
    return Finding(
        {"propagated": mean, "clips": len(videos.x)},
        f"{len(videos.x)} new clips of two sprites, one in front of the other. The masks of the "
        "first frame and a key point (a heat map around the center of the front sprite) are "
        "propagated over seven frames. One encoder is trained on other clips of colored sprites, "
        "one on the first half of the real shots. They see grayscale images and no masks.",
        f"Intersection over union of propagated masks is {ours['front']:.2f} (front) and "
        f"{ours['behind']:.2f} (behind); of copied masks {copied['front']:.2f} and "
        f"{copied['behind']:.2f}, with gray patches {patch['front']:.2f} and "
        f"{patch['behind']:.2f}. The error of the key point is {ours['point']:.2f} pixels, copied "
        f"{copied['point']:.2f}.",
        [table],
        images,
    )


def mask_images(number: int, x: Tensor, predicted: Tensor, true: Tensor) -> TitledImages:
    """An animation of propagated masks; also as a sheet for the first two clips."""

    def tinted(mask: Tensor) -> Tensor:
        tint = torch.tensor([[0.2, 0.2, 0.2], [0.34, 0.71, 0.91], [0.9, 0.62, 0.0]])[mask]
        return 0.3 * to_gray(x) + 0.7 * tint.permute(0, 3, 1, 2)

    videos = torch.stack([x, tinted(predicted), tinted(true)])
    title = f"clip {number + 1}: frames, propagated masks, true masks"
    sheet = [(f"{title}, frame by frame", drawing.image_sheet(videos.transpose(0, 1)))]
    return [(title, drawing.gif(videos)), *sheet * (number < 2)]


class _FrameEncoder(nn.Module):
    """Features of some frames of a grayscale clip (B, T, H, W)."""

    def __init__(self, encoder: nn.Module, frames: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder, self.frames = encoder, frames

    def forward(self, x: Tensor) -> Tensor:
        rgb_frames = [x[:, [t]].expand(-1, 3, -1, -1) for t in self.frames]
        return torch.cat([self.encoder(frame) for frame in rgb_frames], 1)


def v4(lab: Lab) -> Finding:
    """Linear probes for moving sprites."""
    data = open_data(lab.settings.moving_sprites)
    names = ["shape", "velocity", "scale", "x", "y"]
    for part in (data.train, data.test):
        part.factors = {k: v for k, v in part.factors.items() if k in names}
    velocity, velocity_test = (p.factors.pop("velocity") for p in (data.train, data.test))
    encoders = {
        "learned from sprites": on_sprites(lab).encoder,
        "learned from real videos": on_videos(lab, 0).encoder,
        "random": untrained(lab, (32, 32)).encoder,
    }
    results = {}
    for title, encoder in encoders.items():
        first, ends = (
            [embed(_FrameEncoder(encoder, frames), part.x) for part in (data.train, data.test)]
            for frames in ((0,), (0, -1))
        )
        results[title] = probe_factors(first[0], first[1], data)
        results[title]["velocity"] = linear_probe(ends[0], velocity, ends[1], velocity_test).test
    ours, random = results["learned from sprites"], results["random"]
    table = Table.of(
        "Linear probe for moving sprites: classes in %, numbers R²",
        names,
        results,
        dict.fromkeys(names, ".2f") | dict.fromkeys(names[:2], ".1%"),
    )
    return Finding(
        {"probe": results},
        "Linear probes predict the sprite in the first frame of a grayscale clip from features "
        "averaged over positions, and the velocity from the features of the first and last frame; "
        f"{len(data.train):,} training and {len(data.test):,} test clips.",
        f"Accuracy for the shape is {100 * ours['shape']:.1f} % (random weights: "
        f"{100 * random['shape']:.1f} %), for the velocity (25 classes) "
        f"{100 * ours['velocity']:.1f} % ({100 * random['velocity']:.1f} %).",
        [table],
    )


EXPERIMENTS = [
    Experiment("V1", "Colors", "How well are colors propagated over ten frames?",
               functools.partial(colors, number=0), 5),
    Experiment("V2", "Colors of the other half", "And with training and test shots swapped?",
               functools.partial(colors, number=1), 5),
    Experiment("V3", "Masks", "How well are masks propagated?", v3, 4),
    Experiment("V4", "Features", "What do the features contain about moving sprites?", v4, 1),
]  # fmt: skip
