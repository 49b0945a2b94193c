"""Pairs: an image and its caption, a digit seen and heard, in one space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.open import open_data
from unlabeled.data.readers import bpe
from unlabeled.data.readers.pairs import tokens
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.retrieval import equal_rows, paired_retrieval
from unlabeled.modality import Text, require_part
from unlabeled.report import plots
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training.train import reopen

TITLE = "Pairs: what is seen, and what is said of it"
LEAD = (
    "A caption says what is in an image, and a cow is seen when it moos. Two encoders that learn "
    "only which belongs to which: can one sense then find its partner in the other, for things "
    "that neither has met?"
)
DATA = "emoji"
CLAIMS: dict[int, str] = {}
AT = (1, 5, 10)


@torch.no_grad()
def both(run: Run, data: Splits) -> tuple[np.ndarray, np.ndarray]:
    """Test images and their first partners in the common space, (N, dim) each."""
    method: Any = reopen(run)
    x = to_float(torch.from_numpy(data.test.x[:]), data.range)
    y = torch.from_numpy(data.test.partners[:, 0])
    return method.project(x).numpy(), method.project_partner(y).numpy()


def recalls(found: dict[str, float], there: str, back: str) -> Table:
    """Both ways beside chance."""
    ways = {there: "there", back: "back", "chance": "chance"}
    rows = [[t, *(f"{100 * found[f'{key}@{k}']:.1f}" for k in AT)] for t, key in ways.items()]
    return Table("Recall, %", ["", *(f"@{k}" for k in AT)], rows)


def prompts(data: Splits) -> dict[str, list[str]]:
    """Words for each group: its name, and the names of its subgroups in Unicode's table."""
    group, subgroup = (data.train.factors[key] for key in ("group", "subgroup"))
    names = data.train.class_names("subgroup")
    found = {}
    for code, name in enumerate(data.classes):
        of = np.unique(subgroup[group == code])
        parts = [part.strip().lower() for part in name.split("&")]
        found[name] = [*parts, *(names[i].replace("-", " ") for i in of)]
    return found


@torch.no_grad()
def zero_shot(run: Run, data: Splits, images: np.ndarray) -> np.ndarray:
    """The group of each image (N, dim) by the mean vector of its group's words."""
    method: Any = reopen(run)
    tokenizer = bpe.open_tokenizer(require_part(data.modality, Text).tokenizer)
    length = data.train.partners.shape[2]
    means = []
    for words in prompts(data).values():
        z = method.project_partner(torch.from_numpy(tokens(tokenizer, words, length))).numpy()
        means.append(z.mean(0) / np.linalg.norm(z.mean(0)))
    return (images @ np.stack(means).T).argmax(1)


def j1(lab: Lab) -> Finding:
    run = lab.run("emoji", "clip", quick_epochs=2)
    data = lab.data
    seen, said = both(run, data)
    same = equal_rows(data.test.partners[:, 0]), equal_rows(data.test.x[:])
    found = paired_retrieval(seen, said, AT, same)  # any equal name is right
    y, y_test = data.train.factors["group"], data.test.factors["group"]
    guess = float((y_test == np.bincount(y).argmax()).mean())
    right = float((zero_shot(run, data, seen) == y_test).mean())
    z, z_test = lab.features("emoji", run.encoder)
    plain, plain_test = lab.features("random", lab.random())
    linear = linear_probe(z, y, z_test, y_test).test
    figures = {
        "retrieval": found,
        "zero_shot": right,
        "largest_group": guess,
        "linear": linear,
        "linear_random": linear_probe(plain, y, plain_test, y_test).test,
        "knn": knn_accuracy(z, y, z_test, y_test),
        "train": len(data.train),
        "test": len(data.test),
        "temperature": 1 / float(reopen(run).scale.detach().exp()),  # type: ignore[operator]
    }
    rows = np.random.default_rng(0).permutation(len(data.test))[:16]
    shown = to_float(torch.from_numpy(data.test.x[rows]), data.range)
    told = [(data.test.names or [])[row] for row in rows]
    return Finding(
        figures,
        f"An image encoder and a small transformer learn from {len(data.train):,} emoji and "
        "their names and keywords, from nothing but which belongs to which. Then each of "
        f"{len(data.test)} others, of families never seen, looks for its name among theirs. "
        "Without a label, groups such as food or flags are named by the nearest of their words.",
        f"The right name is among the ten nearest for {100 * found['there@10']:.1f} % of the "
        f"images, the image for {100 * found['back@10']:.1f} % of the names; chance gives "
        f"{100 * found['chance@10']:.1f} %. Groups are named rightly for {100 * right:.1f} %, "
        f"where the largest group would be right for {100 * guess:.1f} %.",
        [
            recalls(found, "image to name", "name to image"),
            Table(
                "Groups of unseen families",
                ["", "right, %"],
                [
                    ["named by words, no labels", f"{100 * right:.1f}"],
                    ["the largest group", f"{100 * guess:.1f}"],
                    ["linear decoder on its features", f"{100 * linear:.1f}"],
                    [
                        "linear decoder on random features",
                        f"{100 * float(figures['linear_random']):.1f}",  # type: ignore[arg-type]
                    ],
                ],
            ),
        ],
        [
            (
                "Likeness of images and names; pairs are on the diagonal",
                plots.partners_image(shown, seen[rows] @ said[rows].T, told),
            )
        ],
    )


def j2(lab: Lab) -> Finding:
    data = open_data("audiovisual_digits")
    run = lab.run("two-senses", "clip", data=data, quick_epochs=2)
    seen, heard = both(run, data)
    digit = data.test.factors["digit"]
    found = paired_retrieval(seen, heard, AT, digit)
    y, y_test = data.train.factors["digit"], digit
    z, z_test = lab.features("two-senses", run.encoder, data)
    plain, plain_test = lab.features("random-digits", lab.random(data=data), data)
    figures = {
        "retrieval": found,
        "linear": linear_probe(z, y, z_test, y_test).test,
        "linear_random": linear_probe(plain, y, plain_test, y_test).test,
        "knn": knn_accuracy(z, y, z_test, y_test),
        "train": len(data.train),
        "test": len(data.test),
    }
    order = np.argsort(digit, kind="stable")
    shown = order[np.linspace(0, len(order) - 1, 20).astype(int)]
    x = to_float(torch.from_numpy(data.test.x[shown]), data.range)
    told = [f"a spoken {digit[row]}" for row in shown]
    return Finding(
        figures,
        f"The same method, with an encoder of sounds in place of that of text. {len(data.train)} "
        "images of digits come with recordings of four speakers saying the same digit. Then "
        f"images not seen before look for recordings of two other speakers, {len(data.test)} of "
        "each; right is any recording of the same digit.",
        f"The nearest recording says the digit that is seen in {100 * found['there@1']:.1f} % of "
        f"the cases, and the nearest image shows the digit that is heard in "
        f"{100 * found['back@1']:.1f} %; chance gives {100 * found['chance@1']:.1f} %.",
        [recalls(found, "seen to heard", "heard to seen")],
        [
            (
                "Likeness of what is seen and what is heard, by digit",
                plots.partners_image(x, seen[shown] @ heard[shown].T, told),
            )
        ],
    )


EXPERIMENTS = [
    Experiment("J1", "Images and captions", "Does an image find its name?", j1, 8),
    Experiment("J2", "Two senses", "Does what is seen find what is heard?", j2, 4),
]
