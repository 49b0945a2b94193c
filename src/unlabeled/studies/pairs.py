"""Contrastive learning from pairs: images and captions, images and audio."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.open import open_data
from unlabeled.data.readers import bpe
from unlabeled.data.readers.pairs import tokens
from unlabeled.evaluation.intervals import share
from unlabeled.evaluation.retrieval import equal_rows, partner_hits
from unlabeled.modality import Text, require_part
from unlabeled.report import plots
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, bounded, percent, with_interval
from unlabeled.training.train import reopen

TITLE = "Pairs: images with captions, images with audio"
LEAD = (
    "Images come with captions, and videos with audio. Two encoders learn from nothing but which "
    "samples belong together. Can each retrieve the partners of new samples?"
)
DATA = "emoji"
CLAIMS: dict[int, str] = {}
AT = (1, 5, 10)


@dataclass(frozen=True)
class Settings:
    """Data of images and audio of digits."""

    digits: Any = "audiovisual_digits"


SETTINGS = Settings()


@torch.no_grad()
def project(run: Run, data: Splits) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of test images and of their first partners, (N, dim) each."""
    method: Any = reopen(run)
    x = to_float(torch.from_numpy(data.test.x[:]), data.value_range)
    y = torch.from_numpy(data.test.partners[:, 0])
    return method.project(x).numpy(), method.project_partner(y).numpy()


def retrieval(
    images: np.ndarray, partners: np.ndarray, y: Any, names: tuple[str, str]
) -> dict[str, Any]:
    """Recall of `paired_retrieval` with 95 % intervals over queries, and by chance."""
    results: dict[str, Any] = {}
    for key, hits in partner_hits(images, partners, AT, y, names).items():
        results[key] = value = float(hits.mean())
        if not key.startswith("chance"):
            results[key] = bounded(value, share(value, (hits - value) / len(hits)))
    return results


def recalls(results: dict[str, Any]) -> Table:
    """Recall in both directions and by chance."""
    ways = dict.fromkeys(key.partition("_recall_at_")[0] for key in results)
    rows = [
        [way.replace("_", " "), *(percent(results[f"{way}_recall_at_{k}"]) for k in AT)]
        for way in ways
    ]
    return Table("Recall, %, with 95 % interval", ["", *(f"@{k}" for k in AT)], rows)


def prompts(data: Splits) -> dict[str, list[str]]:
    """Prompts of each group: its name and the names of its subgroups in Unicode's table."""
    group, subgroup = (data.train.factors[key] for key in ("group", "subgroup"))
    names = data.train.class_names("subgroup")
    results = {}
    for code, name in enumerate(data.classes):
        codes = np.unique(subgroup[group == code])
        parts = [part.strip().lower() for part in name.split("&")]
        results[name] = [*parts, *(names[i].replace("-", " ") for i in codes)]
    return results


@torch.no_grad()
def zero_shot(run: Run, data: Splits, images: np.ndarray) -> np.ndarray:
    """Classify images (N, dim) by the nearest mean embedding of the prompts of a group."""
    method: Any = reopen(run)
    tokenizer = bpe.open_tokenizer(require_part(data.modality, Text).tokenizer)
    length = data.train.partners.shape[2]
    means = []
    for words in prompts(data).values():
        z = method.project_partner(torch.from_numpy(tokens(tokenizer, words, length))).numpy()
        means.append(z.mean(0) / np.linalg.norm(z.mean(0)))
    return (images @ np.stack(means).T).argmax(1)


def probes(lab: Lab, name: str, run: Run, data: Splits, factor: str) -> dict[str, Any]:
    """Linear probe and k-NN accuracy of the image encoder, and the numbers of pairs."""
    random, n = lab.random(data=data), len(data.test)
    return {
        "linear": with_interval(lab.probe(name, run.encoder, factor, data).test, n),
        "linear_random": with_interval(lab.probe(f"random {name}", random, factor, data).test, n),
        "knn": with_interval(lab.knn(name, run.encoder, factor, data), n),
        "train": len(data.train),
        "test": len(data.test),
    }


def j1(lab: Lab) -> Finding:
    run = lab.run("emoji", "clip", quick_epochs=2)
    data = lab.data
    images, names = project(run, data)
    same = equal_rows(data.test.partners[:, 0]), equal_rows(data.test.x[:])
    results = retrieval(images, names, same, ("image", "text"))  # equal names are correct
    y, y_test = data.train.factors["group"], data.test.factors["group"]
    largest = float((y_test == np.bincount(y).argmax()).mean())
    right = float((zero_shot(run, data, images) == y_test).mean())
    accuracy = with_interval(right, len(y_test))
    method: Any = reopen(run)
    figures: dict[str, Any] = {
        "retrieval": results,
        "zero_shot": accuracy,
        "largest_group": largest,
    }
    figures |= probes(lab, "emoji", run, data, "group")
    figures["temperature"] = 1 / float(method.logit_scale.detach().exp())
    groups = {
        title: {"accuracy": value}
        for title, value in {
            "zero-shot": accuracy,
            "the largest group": with_interval(largest, len(y_test)),
            "linear probe": figures["linear"],
            "linear probe, random encoder": figures["linear_random"],
        }.items()
    }
    rows = np.random.default_rng(0).permutation(len(data.test))[:16]
    shown = to_float(torch.from_numpy(data.test.x[rows]), data.value_range)
    labels = [(data.test.names or [])[row] for row in rows]
    matrix = plots.partners_image(shown, images[rows] @ names[rows].T, labels)
    return Finding(
        figures,
        f"An image encoder and a mean of embedded words are trained by CLIP on {len(data.train):,} "
        f"emoji with their names and keywords. Each of {len(data.test)} emoji of families that are "
        "not in the training data then retrieves its name among theirs. Zero-shot classification "
        "assigns the group (food, flags, …) whose prompts are nearest.",
        f"Recall@10 is {percent(results['image_to_text_recall_at_10'])} % from image to name and "
        f"{percent(results['text_to_image_recall_at_10'])} % from name to image (chance: "
        f"{percent(results['chance_recall_at_10'])} %). Zero-shot accuracy is "
        f"{percent(accuracy)} %; always the largest group gives {100 * largest:.1f} %.",
        [
            recalls(results),
            Table.of(
                "Classification of groups for unseen families", ["accuracy, %"], groups, ".1%"
            ),
        ],
        [("Similarity of images and names; pairs are on the diagonal", matrix)],
    )


def j2(lab: Lab) -> Finding:
    data = open_data(lab.settings.digits)
    run = lab.run("audiovisual-digits", "clip", data=data, quick_epochs=2)
    images, audio = project(run, data)
    digit = data.test.factors["digit"]
    results = retrieval(images, audio, digit, ("image", "audio"))
    figures = {"retrieval": results} | probes(lab, "audiovisual-digits", run, data, "digit")
    order = np.argsort(digit, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, 20).astype(int)]
    x = to_float(torch.from_numpy(data.test.x[rows]), data.value_range)
    labels = [f"a spoken {digit[row]}" for row in rows]
    matrix = plots.partners_image(x, images[rows] @ audio[rows].T, labels)
    return Finding(
        figures,
        f"CLIP with an audio encoder instead of the text encoder is trained on {len(data.train)} "
        "images of digits paired with recordings of the same digit by four speakers. Each of "
        f"{len(data.test)} new images then retrieves recordings of two other speakers; every "
        "recording of the same digit is correct.",
        f"Recall@1 is {percent(results['image_to_audio_recall_at_1'])} % from image to audio and "
        f"{percent(results['audio_to_image_recall_at_1'])} % from audio to image (chance: "
        f"{percent(results['chance_recall_at_1'])} %).",
        [recalls(results)],
        [("Similarity of images and audio, sorted by digit", matrix)],
    )


EXPERIMENTS = [
    Experiment("J1", "Images and captions", "Does an image retrieve its name?", j1, 8),
    Experiment("J2", "Images and audio", "Does an image retrieve its audio?", j2, 4),
]
