"""Video: what is learned by coloring videos, and what can be carried along in them?"""

from __future__ import annotations

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
from unlabeled.objectives.propagation import propagate
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training.train import reopen
from unlabeled.utils import drawing

TITLE = "Video: colors that point at where they came from"
LEAD = (
    "A video was gray but for its first frames. Whoever colors the others has to find out what "
    "went where; and whoever knows that can carry anything along, not only colors."
)
DATA = "video"
CLAIMS: dict[int, str] = {}
AHEAD = 10
"""Frames that labels are carried."""
RADIUS, TEMPERATURE = 10, 0.03
RECENT = 2
EVERY = 20
"""A shot is begun anew at every twentieth frame."""
PATCH, PATCH_TEMPERATURE = 7, 0.025
"""Side of a gray patch, and how much two may differ that are alike."""
HALVES = ("first", "second")
SPRITE_CLIPS = 60


def half(number: int) -> Splits:
    """Every second shot to learn from; the others, of which nothing is learned, to test on."""
    whole = open_data(DATA)
    both = all_samples(whole)
    mine = both.factors["shot"] % 2 == number
    train, test = (both.take(np.flatnonzero(rows)) for rows in (mine, ~mine))
    return Splits(f"video: {HALVES[number]} half", train, test, "shot")


def on_videos(lab_: Lab, number: int) -> Any:
    """The method that learned from one half of the shots."""
    run = lab_.run(f"videos-{HALVES[number]}", "video_colorization", data=half(number),
                   quick_epochs=2)  # fmt: skip
    return reopen(run)


def on_sprites(lab_: Lab) -> Any:
    data = open_data("colored_sprites")
    return reopen(lab_.run("sprites", "video_colorization", data=data, quick_epochs=1))


def untrained(lab_: Lab, size: tuple[int, int]) -> Any:
    """The same networks with random weights."""
    splits = Splits(
        "blank",
        Samples(np.zeros((1, 3, *size), np.uint8)),
        Samples(np.zeros((0, 3, *size), np.uint8)),
    )
    encoder = lab_.random("spatial_resnet", data=splits, gray=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000)
        return VideoColorization(encoder, shape=(3, *size)).eval()


def patches(x: Tensor) -> Tensor:
    """Gray patches around each pixel as its embedding: (T, 3, H, W) -> (T, 49, H, W)."""
    wide = F.pad(rgb_to_lab(x)[:, :1] / 100, [PATCH // 2] * 4, mode="replicate")
    return F.unfold(wide, PATCH).unflatten(2, x.shape[2:])


@torch.no_grad()
def ways(methods: dict[str, Any], x: Tensor, first: Tensor) -> dict[str, Tensor]:
    """Labels of the first of some frames, carried by each method: by title (T, K, H, W)."""
    found = {"copied": first.expand(len(x), *first.shape)}
    options: dict[str, Any] = {"radius": RADIUS, "temperature": PATCH_TEMPERATURE}
    found["gray patches"] = propagate(patches(x), first, **options)
    options["temperature"] = TEMPERATURE
    for title, method in methods.items():
        z = method.pixels(x)
        found[title] = propagate(z, first, **options)
        if title == "learned":
            found["learned, recent frames too"] = propagate(z, first, recent=RECENT, **options)
    return found


def clips(part: Samples, shot: int) -> list[Tensor]:
    """Pieces of a shot, as images (at most 11, 3, H, W) in [0, 1]."""
    rows = np.flatnonzero(part.factors["shot"] == shot)
    rows = rows[np.argsort(part.factors["frame"][rows])]
    return [
        to_float(torch.from_numpy(part.x[rows[start : start + AHEAD + 1]]), (0.0, 255.0))
        for start in range(0, max(1, len(rows) - AHEAD), EVERY)
    ]


def colors(lab_: Lab, number: int) -> Finding:
    """Colors over ten frames of real videos, in shots that nothing was learned from."""
    data = half(number)
    methods = {"random": untrained(lab_, data.size), "learned": on_videos(lab_, number)}
    learned_from = [data.classes[s] for s in np.unique(data.train.factors["shot"])]
    errors: dict[str, dict[str, float]] = {}
    images: list[tuple[str, bytes | str]] = []
    for shot in np.unique(data.test.factors["shot"]):
        title = data.classes[shot]
        pieces = clips(data.test, shot)[: 1 if lab_.quick else None]
        each: dict[str, list[float]] = {}
        for begun, x in enumerate(pieces):
            true = rgb_to_lab(x)[:, 1:]
            carried_by = ways(methods, x, true[0])
            for way, ab in carried_by.items():
                wrong = (ab[1:] - true[1:]).norm(dim=1).mean((1, 2))
                each.setdefault(way, []).append(float(wrong.mean()))
                each.setdefault(f"{way}, last", []).append(float(wrong[-1]))
            if begun == len(pieces) // 2:
                images += shown(title, x, carried_by["learned"])
        errors[title] = {k: float(np.mean(v)) for k, v in each.items()}
    names = [k for k in next(iter(errors.values())) if not k.endswith("last")]
    mean = {way: float(np.mean([e[way] for e in errors.values()])) for way in names}
    lost = [shot for shot, e in errors.items() if e["learned"] >= e["copied"]]
    behind = [shot for shot, e in errors.items() if e["learned"] >= e["gray patches"]]
    told = "in every shot" if not lost else f"but not in {'; '.join(lost)}"
    return Finding(
        {"errors": errors, "mean": mean, "learned_from": learned_from, "lost": lost},
        f"The encoder learned from the shots {'; '.join(learned_from)}, and is tested on the "
        "others. "
        f"The colors of a frame are carried over the {AHEAD} that follow, always from the first "
        f"one but in the last column, which looks at the {RECENT} frames before as well. A pixel "
        f"points within {RADIUS} pixels of its place, by the softmax of the cosine over "
        f"{TEMPERATURE:g}. Radius and temperature were screened on shots of both halves, these "
        f"among them, so the figures are so much the less blind. Gray patches of {PATCH}×{PATCH} "
        "pixels are compared in the same way.",
        f"Learned, the colors are wrong by {mean['learned']:.2f} on average, copied by "
        f"{mean['copied']:.2f}: carrying is better {told}. Gray patches, which learn nothing, are "
        f"wrong by {mean['gray patches']:.2f}"
        + (f"; they are as good or better in {'; '.join(behind)}." if behind else "."),
        [
            Table(
                caption,
                ["shot, not learned from", *names],
                [[s, *(f"{e[w + end]:.2f}" for w in names)] for s, e in errors.items()],
            )
            for caption, end in (
                (f"Mean distance of a*, b* from the truth, over {AHEAD} frames", ""),
                ("In the last of these frames", ", last"),
            )
        ],
        images,
    )


def v1(lab_: Lab) -> Finding:
    return colors(lab_, 0)


def v2(lab_: Lab) -> Finding:
    return colors(lab_, 1)


def shown(shot: str, x: Tensor, ab: Tensor) -> list[tuple[str, bytes | str]]:
    """A sheet and a video of colors that were carried."""
    told = lab_to_rgb(torch.cat([rgb_to_lab(x)[:, :1], ab], 1))
    rows = torch.stack([x[:1].expand_as(x), to_gray(x), told, x], 1)[[1, 4, 7, -1]]
    return [
        (f"{shot}: first frame, gray, colors carried, truth", drawing.image_sheet(rows)),
        (
            f"{shot}: gray, colors carried, truth",
            drawing.gif(torch.stack([to_gray(x), told, x])),
        ),
    ]


def overlap(told: Tensor, true: Tensor, thing: int) -> float:
    """Intersection over union of a thing, mean over frames (T, H, W) that show it."""
    a, b = told == thing, true == thing
    there = b.flatten(1).any(1)
    shared, either = (m.flatten(1).sum(1)[there] for m in (a & b, a | b))
    return float((shared / either).mean()) if there.any() else float("nan")


def center(heat: Tensor) -> Tensor:
    """Row and column of the middle of heat maps (T, H, W): (T, 2)."""
    down, across = (torch.arange(side, dtype=torch.float32) for side in heat.shape[1:])
    total = heat.sum((1, 2)) + 1e-9
    return torch.stack([heat.sum(2) @ down / total, heat.sum(1) @ across / total], 1)


def v3(lab_: Lab) -> Finding:
    """Masks and key points of sprites that glide."""
    videos = colored_sprites.draw(10 if lab_.quick else SPRITE_CLIPS, seed=1)
    methods = {
        "random": untrained(lab_, (32, 32)),
        "learned from real videos": on_videos(lab_, 0),
        "learned": on_sprites(lab_),
    }
    found: dict[str, dict[str, list[float]]] = {}
    images: list[tuple[str, bytes | str]] = []
    for number in range(len(videos.x)):
        x = to_float(torch.from_numpy(videos.x[number]), (0.0, 255.0))
        true = torch.from_numpy(videos.masks[number]).long()
        things = F.one_hot(true, 3).permute(0, 3, 1, 2).float()  # (T, 3, H, W)
        middle = center(things[:, 2])
        point = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 2, indexing="ij"), 2)
        heat = (-(point - middle[0]).square().sum(2) / 8).exp()  # of a key point
        for way, labels in ways(methods, x, torch.cat([things[0], heat[None]])).items():
            told = labels[:, :3].argmax(1)
            figures = found.setdefault(way, {"front": [], "behind": [], "point": []})
            figures["front"].append(overlap(told[1:], true[1:], 2))
            figures["behind"].append(overlap(told[1:], true[1:], 1))
            off = (center(labels[:, 3])[1:] - middle[1:]).norm(dim=1)
            figures["point"].append(float(off.mean()))
            if way == "learned" and number < 4:
                images += masks_shown(number, x, told, true)
    mean = {w: {k: float(np.nanmean(v)) for k, v in f.items()} for w, f in found.items()}
    ours, copied, plain = (mean[way] for way in ("learned", "copied", "gray patches"))
    return Finding(
        {"carried": mean, "clips": len(videos.x)},
        f"{len(videos.x)} new clips of two sprites, one in front of the other, through which the "
        "masks of the first frame are carried for seven frames, and a key point: a heat map "
        "around the middle of the sprite in front. One encoder learned from other clips of colored "
        "sprites, one from the first half of the real shots. It sees gray, and knows no mask.",
        f"The masks carried overlap with the true ones by {ours['front']:.2f} (in front) and "
        f"{ours['behind']:.2f} (behind), those copied from the first frame by "
        f"{copied['front']:.2f} and {copied['behind']:.2f}. The key point is off by "
        f"{ours['point']:.2f} pixels, copied by {copied['point']:.2f}. Gray patches, which learn "
        f"nothing, overlap by {plain['front']:.2f} and {plain['behind']:.2f}"
        + (": on plain sprites that is more." if plain["front"] > ours["front"] else "."),
        [
            Table(
                "Masks: intersection over union; key point: pixels off",
                ["", "in front", "behind", "key point"],
                [
                    [w, *(f"{f[k]:.3f}" for k in ("front", "behind", "point"))]
                    for w, f in mean.items()
                ],
            )
        ],
        images,
    )


def masks_shown(
    number: int, x: Tensor, told: Tensor, true: Tensor
) -> list[tuple[str, bytes | str]]:
    """A video of masks that were carried; a sheet of it for the first two."""

    def tinted(mask: Tensor) -> Tensor:
        tint = torch.tensor([[0.2, 0.2, 0.2], [0.34, 0.71, 0.91], [0.9, 0.62, 0.0]])[mask]
        return 0.3 * to_gray(x) + 0.7 * tint.permute(0, 3, 1, 2)

    videos = torch.stack([x, tinted(told), tinted(true)])
    title = f"clip {number + 1}: frames, masks carried, true masks"
    sheet = [(f"{title}, frame by frame", drawing.image_sheet(videos.transpose(0, 1)))]
    return [(title, drawing.gif(videos)), *sheet * (number < 2)]


class _Ends(nn.Module):
    """An encoder of three colors on the first and last frame of a clip: (B, 8, H, W)."""

    def __init__(self, encoder: nn.Module, frames: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder, self.frames = encoder, frames

    def forward(self, x: Tensor) -> Tensor:
        three = [x[:, [t]].expand(-1, 3, -1, -1) for t in self.frames]
        return torch.cat([self.encoder(frame) for frame in three], 1)


def v4(lab_: Lab) -> Finding:
    """What the features say of sprites that glide."""
    data = open_data("moving_sprites")
    numbers = ("scale", "x", "y")
    kept = {"shape", *numbers}
    for part in (data.train, data.test):
        part.factors = {k: v for k, v in part.factors.items() if k in (*kept, "velocity")}
    velocity, velocity_test = (p.factors.pop("velocity") for p in (data.train, data.test))
    encoders = {
        "learned from sprites": on_sprites(lab_).encoder,
        "learned from real videos": on_videos(lab_, 0).encoder,
        "random": untrained(lab_, (32, 32)).encoder,
    }
    found = {}
    for title, encoder in encoders.items():
        z, z_test = (embed(_Ends(encoder, (0,)), part.x) for part in (data.train, data.test))
        found[title] = probe_factors(z, z_test, data)
        z, z_test = (embed(_Ends(encoder, (0, -1)), part.x) for part in (data.train, data.test))
        found[title]["velocity"] = linear_probe(z, velocity, z_test, velocity_test).test
    ours, random = found["learned from sprites"], found["random"]
    names = ["shape", "velocity", *numbers]
    return Finding(
        {"probe": found},
        "A linear decoder reads the sprite of the first frame of a gray clip from the features, "
        "which are the mean of all places, and the velocity from those of the first and last "
        f"frame; {len(data.train):,} clips to learn from, {len(data.test):,} others to test on.",
        f"Shape is read with {100 * ours['shape']:.1f} %, with random weights "
        f"{100 * random['shape']:.1f} %; velocity, of 25, with {100 * ours['velocity']:.1f} % and "
        f"{100 * random['velocity']:.1f} %.",
        [
            Table(
                "Linear decoding of moving sprites: classes in %, numbers R²",
                ["", *names],
                [
                    [
                        title,
                        *(f"{100 * f[k]:.1f}" for k in names[:2]),
                        *(f"{f[k]:.2f}" for k in names[2:]),
                    ]
                    for title, f in found.items()
                ],
            )
        ],
    )


EXPERIMENTS = [
    Experiment("V1", "Colors", "What color is it ten frames later?", v1, 5),
    Experiment("V2", "Colors of the other half", "And the other way round?", v2, 5),
    Experiment("V3", "Masks", "Where did the sprite go?", v3, 4),
    Experiment("V4", "Features", "What does the encoder know of what moves?", v4, 1),
]
