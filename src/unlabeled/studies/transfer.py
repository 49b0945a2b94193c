"""Transfer of encoders of single sprites to detection and segmentation of scenes.

Encoders trained without labels, with labels or not at all, with few and with more labeled scenes.
"""

import functools
import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlabeled.data.sets.dsprites import SHAPES
from unlabeled.data.sets.scenes import Scenes, draw
from unlabeled.evaluation.transfer import BATCH, GENTLE, Dense, learn, measure, predict
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.studies.lectures import encoder_of, percent

TITLE = "Transfer: from single sprites to scenes"
LEAD = (
    "Encoders are trained on 64×64 images of one white sprite. Scenes of 128×128 contain one to "
    "four gray sprites, some partly occluded. How well are they segmented and detected?"
)
DATA = "dsprites"
CLAIMS = {15: "Self-supervised backbones transfer better to detection and segmentation."}
ENCODERS = ("SimCLR", "supervised", "random")
Figures = dict[str, dict[str, list[dict[str, Any]]]]
"""Figures by encoder and setting, one for each seed."""
MODES = {"frozen": True, "fine-tuned": False}
MARGIN = 0.01
"""A smaller difference counts as none."""
MIN_SCORE = 0.3
"""Boxes with a higher score are drawn."""


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    scenes: tuple[int, int] = (200, 2000)  #: numbers of labeled training scenes
    test_scenes: int = 500  #: number of test scenes
    steps: int = 300  #: optimizer steps of every head, approximately


SETTINGS, QUICK = Settings(), Settings(steps=40)


@functools.lru_cache(maxsize=4)
def scenes(lab: Lab) -> tuple[Scenes, Scenes]:
    """Training and test scenes."""
    return draw(max(lab.settings.scenes), seed=1), draw(lab.settings.test_scenes, seed=2)


@functools.lru_cache(maxsize=64)
def transferred(
    lab: Lab, name: str, number: int, mode: str, seed: int
) -> tuple[Dense, dict[str, Any]]:
    """Train a head on an encoder for both tasks; return the model and its figures."""
    train, test = scenes(lab)
    encoder = encoder_of(lab, name, seed)
    epochs = math.ceil(lab.settings.steps / max(1, number // BATCH))
    rate, some = 1.0 if name == "random" else GENTLE, train.take(slice(number))
    model, losses = learn(encoder, some, freeze=MODES[mode], epochs=epochs, seed=seed, rate=rate)
    return model, measure(model, test) | {"losses": losses}


def all_figures(lab: Lab) -> Figures:
    """Figures of each seed by encoder and setting, such as "200 scenes, frozen"."""
    return {
        name: {
            f"{number:,} scenes, {mode}": [
                transferred(lab, name, number, mode, seed)[1] for seed in lab.seeds
            ]
            for number in lab.settings.scenes
            for mode in MODES
        }
        for name in ENCODERS
    }


def values(results: list[dict[str, Any]], measure: str) -> list[float]:
    return [figures[measure] for figures in results]


def table(figures: Figures, measure: str, caption: str) -> Table:
    settings = list(next(iter(figures.values())))
    rows = [
        [name, *(percent(values(results[setting], measure)) for setting in settings)]
        for name, results in figures.items()
    ]
    return Table(caption, ["", *settings], rows)


def leads(figures: Figures, measure: str) -> dict[str, float]:
    """Difference of SimCLR and the supervised encoder by setting."""
    return {
        setting: statistics.mean(values(results, measure))
        - statistics.mean(values(figures["supervised"][setting], measure))
        for setting, results in figures["SimCLR"].items()
    }


def image(lab: Lab, number: int, mode: str) -> bytes:
    """Ground truth and predictions of each encoder for test scenes with the most sprites."""
    _, test = scenes(lab)
    order = np.argsort(-(test.classes >= 0).sum(1), kind="stable")
    scene = test.take(order[:4])
    columns = {"ground truth": (scene.masks, scene.boxes, scene.classes)}
    for name in ENCODERS:
        masks, boxes = predict(transferred(lab, name, number, mode, lab.seeds[0])[0], scene.x)
        classes = np.where(boxes.scores > MIN_SCORE, boxes.classes, -1)
        columns[name] = masks, boxes.boxes, classes
    return plots.scenes_image(scene.x, columns, list(SHAPES))


def summary(figures: Figures, measure: str, setting: str) -> str:
    return ", ".join(
        f"{name} {percent(values(results[setting], measure))} %"
        for name, results in figures.items()
    )


def t1(lab: Lab) -> Finding:
    figures = all_figures(lab)
    few, *_, many = next(iter(figures.values()))
    classes = ["background", *SHAPES]
    by_shape = [
        [name, *(percent([f["iou"][c] for f in results[few]]) for c in classes)]
        for name, results in figures.items()
    ]
    return Finding(
        {"settings": figures, "leads": leads(figures, "miou")},
        f"A small head on the encoder is trained on {lab.settings.scenes[0]:,} or "
        f"{lab.settings.scenes[1]:,} labeled scenes to segment them and to detect the sprites. The "
        "encoder is frozen, or fine-tuned at a tenth of the learning rate of the head (the random "
        "encoder at the full rate). All take about as many steps. Intersection over union is "
        f"computed over all pixels of {lab.settings.test_scenes:,} other scenes and averaged over "
        "the three shapes.",
        f"With {few} the mean IoU is: {summary(figures, 'miou', few)}; with {many}: "
        f"{summary(figures, 'miou', many)}.",
        [
            table(figures, "miou", "Segmentation: mean IoU of the shapes, %"),
            Table(f"Segmentation by class: IoU with {few}, %", ["", *classes], by_shape),
        ],
        [(f"Masks and boxes with {few}", image(lab, lab.settings.scenes[0], "frozen"))],
    )


def t2(lab: Lab) -> Finding:
    figures = all_figures(lab)
    few, *_, many = next(iter(figures.values()))
    lead = {measure: leads(figures, measure) for measure in ("miou", "ap")}
    miou, ap = (statistics.mean(by_setting.values()) for by_setting in lead.values())
    decided = abs(miou) > MARGIN and abs(ap) > MARGIN and (miou > 0) == (ap > 0)
    why = (
        f"SimCLR minus supervised: {100 * miou:+.1f} points of mean IoU and {100 * ap:+.1f} of "
        f"average precision, means over {len(lead['ap'])} settings"
    )
    return Finding(
        {"settings": figures, "leads": lead},
        "The same heads predict boxes: a heat map of the centers of each shape and the distances "
        "to the four sides. Average precision is COCO's, with 101 recall levels: at an IoU of 0.5 "
        "and averaged over IoUs from 0.5 to 0.95.",
        f"With {few} the average precision is: {summary(figures, 'ap', few)}; with {many}: "
        f"{summary(figures, 'ap', many)}.",
        [
            table(figures, "ap50", "Detection: average precision at IoU 0.5, %"),
            table(figures, "ap", "Detection: average precision at IoU 0.5 to 0.95, %"),
        ],
        [(f"Masks and boxes with {many}", image(lab, lab.settings.scenes[-1], "fine-tuned"))],
        {15: (miou > 0 if decided else None, why)},
    )


EXPERIMENTS = [
    Experiment("T1", "Segmentation", "Which shape does each pixel show?", t1, 13),
    Experiment("T2", "Detection", "Which shapes are where?", t2, 0.2),
]
