"""Does what an encoder learned from single sprites help it to find them in scenes?

Detection and segmentation with few labeled scenes and with more, by encoders that learned without
labels, with labels, or nothing.
"""

from __future__ import annotations

import functools
import math
import statistics
from typing import Any

import numpy as np
from torch import nn

from unlabeled.data.sets.dsprites import SHAPES
from unlabeled.data.sets.scenes import Scenes, draw
from unlabeled.evaluation.transfer import BATCH, GENTLE, Dense, judge, learn, predict
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.studies.lectures import percent, random_net, simclr, supervised

TITLE = "Transfer: from single sprites to scenes"
LEAD = (
    "The encoders learn from images of 64×64 with one white sprite each. Scenes of 128×128 hold "
    "one to four, in grays, some half hidden. What is where?"
)
DATA = "dsprites"
CLAIMS = {15: "Self-supervised backbones transfer better to detection and segmentation."}
ENCODERS = {"SimCLR": simclr, "supervised": supervised, "random": random_net}
SCENES = (200, 2000)
TEST_SCENES = 500
STEPS, QUICK_STEPS = 300, 40
"""Of every head, about, however many its scenes are."""
MODES = {"frozen": True, "fine-tuned": False}
MARGIN = 0.01
"""A lead of less counts as none."""
SURE = 0.3
"""Boxes with a score above it are drawn."""


@functools.cache
def scenes() -> tuple[Scenes, Scenes]:
    """To learn from and to be judged on."""
    return draw(max(SCENES), seed=1), draw(TEST_SCENES, seed=2)


@functools.lru_cache(maxsize=64)
def transferred(
    lab: Lab, name: str, number: int, mode: str, seed: int
) -> tuple[Dense, dict[str, Any]]:
    """A head on an encoder, trained once for both tasks, and its figures."""
    train, test = scenes()
    steps = QUICK_STEPS if lab.quick else STEPS
    encoder: nn.Module = ENCODERS[name](lab, seed)
    model, losses = learn(
        encoder,
        train.take(slice(number)),
        freeze=MODES[mode],
        epochs=math.ceil(steps / max(1, number // BATCH)),
        seed=seed,
        rate=1.0 if name == "random" else GENTLE,
    )
    return model, judge(model, test) | {"losses": losses}


def all_figures(lab: Lab) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By encoder and setting, such as "200 scenes, frozen", the figures of each seed."""
    return {
        name: {
            f"{number:,} scenes, {mode}": [
                transferred(lab, name, number, mode, seed)[1] for seed in lab.seeds
            ]
            for number in SCENES
            for mode in MODES
        }
        for name in ENCODERS
    }


def values(found: list[dict[str, Any]], measure: str) -> list[float]:
    return [figures[measure] for figures in found]


def table(figures: dict[str, dict[str, list[dict[str, Any]]]], measure: str, what: str) -> Table:
    settings = list(next(iter(figures.values())))
    rows = [
        [name, *(percent(values(found[setting], measure)) for setting in settings)]
        for name, found in figures.items()
    ]
    return Table(what, ["", *settings], rows)


def leads(figures: dict[str, dict[str, list[dict[str, Any]]]], measure: str) -> dict[str, float]:
    """By setting, how far SimCLR is ahead of the supervised encoder."""
    return {
        setting: statistics.mean(values(found, measure))
        - statistics.mean(values(figures["supervised"][setting], measure))
        for setting, found in figures["SimCLR"].items()
    }


def image(lab: Lab, number: int, mode: str) -> bytes:
    """The first of the fullest test scenes: what is there, and what each encoder sees."""
    _, test = scenes()
    fullest = np.argsort(-(test.classes >= 0).sum(1), kind="stable")
    shown = test.take(fullest[:4])
    columns = {"the truth": (shown.masks, shown.boxes, shown.classes)}
    for name in ENCODERS:
        masks, found = predict(transferred(lab, name, number, mode, lab.seeds[0])[0], shown.x)
        sure = np.where(found.scores > SURE, found.classes, -1)
        columns[name] = masks, found.boxes, sure
    return plots.scenes_image(shown.x, columns, list(SHAPES))


def told(figures: dict[str, dict[str, list[dict[str, Any]]]], measure: str, setting: str) -> str:
    return ", ".join(
        f"{name} {percent(values(found[setting], measure))} %" for name, found in figures.items()
    )


def t1(lab: Lab) -> Finding:
    figures = all_figures(lab)
    few, *_, many = next(iter(figures.values()))
    classes = ["background", *SHAPES]
    by_shape = [
        [name, *(percent([f["iou"][c] for f in found[few]]) for c in classes)]
        for name, found in figures.items()
    ]
    return Finding(
        {"settings": figures, "leads": leads(figures, "miou")},
        f"A small head learns from {SCENES[0]:,} or {SCENES[1]:,} labeled scenes what each pixel "
        "shows, and boxes at the same time. Below it the encoder stays as it is (frozen), or "
        "learns on at a tenth of the head's rate (fine-tuned); the random one, that has nothing to "
        "keep, at the full rate. All take about as many steps. Intersection over union is "
        f"counted over all pixels of {TEST_SCENES:,} other scenes, a mean over the three shapes.",
        f"With {few} the mean IoU is: {told(figures, 'miou', few)}; with {many}: "
        f"{told(figures, 'miou', many)}.",
        [
            table(figures, "miou", "Segmentation: mean IoU of the shapes, %"),
            Table(f"Segmentation by class: IoU with {few}, %", ["", *classes], by_shape),
        ],
        [(f"Masks and boxes with {few}", image(lab, SCENES[0], "frozen"))],
    )


def t2(lab: Lab) -> Finding:
    figures = all_figures(lab)
    few, *_, many = next(iter(figures.values()))
    lead = {measure: leads(figures, measure) for measure in ("miou", "ap")}
    masks, boxes = (statistics.mean(by_setting.values()) for by_setting in lead.values())
    held = None
    if abs(masks) > MARGIN and abs(boxes) > MARGIN and (masks > 0) == (boxes > 0):
        held = masks > 0
    return Finding(
        {"settings": figures, "leads": lead},
        "The same heads find boxes: the likely centers of each shape, and from each the distance "
        "to the four sides. Average precision is COCO's, with 101 recalls: at an IoU of 0.5, where "
        "a rough box will do, and the mean from 0.5 to 0.95.",
        f"With {few} the average precision is: {told(figures, 'ap', few)}; with {many}: "
        f"{told(figures, 'ap', many)}.",
        [
            table(figures, "ap50", "Detection: average precision at IoU 0.5, %"),
            table(figures, "ap", "Detection: average precision at IoU 0.5 to 0.95, %"),
        ],
        [(f"Masks and boxes with {many}", image(lab, SCENES[-1], "fine-tuned"))],
        {
            15: (
                held,
                f"SimCLR is ahead of supervised by {100 * masks:+.1f} points of mean IoU and "
                f"{100 * boxes:+.1f} of average precision, means over {len(lead['ap'])} settings",
            )
        },
    )


EXPERIMENTS = [
    Experiment("T1", "Segmentation", "Which shape does each pixel show?", t1, 13),
    Experiment("T2", "Detection", "Where is which shape?", t2, 0.2),
]
