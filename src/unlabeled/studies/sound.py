"""Sound: prediction of speech beside cepstra, and tunes known again on other instruments."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from unlabeled.data.dataset import Splits
from unlabeled.data.open import open_data
from unlabeled.evaluation.few_labels import few_labels
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.retrieval import retrieval
from unlabeled.evaluation.sound import Kind, Spectral
from unlabeled.modality import Audio, require_part
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, percent

TITLE = "Sound: what is learned by telling what comes next"
LEAD = (
    "Contrastive predictive coding listens to spoken digits as raw samples and learns to tell what "
    "comes next from what cannot come. Does it know what was said, and who said it? And can a tune "
    "be known again on another instrument?"
)
DATA = "spoken_digits"
CLAIMS: dict[int, str] = {}
EPOCHS, QUICK_EPOCHS = 40, 2
FEW, DRAWS = 5, 10
"""Recordings of each speaker, and draws of them."""
CEPSTRA: dict[str, Kind] = {"MFCC": "mfcc", "MFCC and deltas": "mfcc and deltas", "mel": "mel"}
ASKED = {
    "digit": "digit",
    "unseen": "digit, speaker left out",
    "speaker": "speaker",
    "few": f"speaker, {FEW} recordings each",
}


def read(z: np.ndarray, z_test: np.ndarray, data: Splits) -> dict[str, float]:
    """Digit and speaker, with all labels and with few; digits of a speaker never heard labeled.

    The latter goes over both parts: five speakers to learn from, the sixth to test, in turn.
    """
    (digit, digit_test), (speaker, speaker_test) = (
        (data.train.factors[name], data.test.factors[name]) for name in ("digit", "speaker")
    )
    speakers = np.unique(speaker)
    few = few_labels(z, speaker, z_test, speaker_test, FEW * len(speakers), draws=DRAWS)
    every, digits = np.concatenate([z, z_test]), np.concatenate([digit, digit_test])
    by = np.concatenate([speaker, speaker_test])
    unseen = [
        linear_probe(every[by != s], digits[by != s], every[by == s], digits[by == s]).test
        for s in speakers
    ]
    return {
        "digit": linear_probe(z, digit, z_test, digit_test).test,
        "speaker": linear_probe(z, speaker, z_test, speaker_test).test,
        "few": few.test,
        "unseen": float(np.mean(unseen)),
    }


def cpc(lab: Lab, seed: int = 0, **options: Any) -> nn.Module:
    name = "-".join(["cpc", *map(str, options.values())])
    options = {"epochs": EPOCHS} | options
    return lab.run(name, "cpc", seed, quick_epochs=QUICK_EPOCHS, **options).encoder


def s1(lab: Lab) -> Finding:
    runs: dict[str, list[dict[str, float]]] = {"CPC": [], "random": []}
    for seed in lab.seeds:
        runs["CPC"].append(read(*lab.features(f"CPC {seed}", cpc(lab, seed)), lab.data))
        encoder = lab.random("wave", seed)
        runs["random"].append(read(*lab.features(f"random {seed}", encoder), lab.data))
    for title, kind in CEPSTRA.items():
        spectral = Spectral(require_part(lab.data.modality, Audio).sample_rate, kind)
        runs[title] = [read(*lab.features(title, spectral), lab.data)]
    found = {t: {what: [one[what] for one in every] for what in ASKED} for t, every in runs.items()}
    ours, cepstra, random = (found[title] for title in ("CPC", "MFCC", "random"))
    mean = {t: {what: float(np.mean(v)) for what, v in f.items()} for t, f in found.items()}
    aims = {
        "digit: CPC > MFCC > random, every seed": min(ours["digit"])
        > cepstra["digit"][0]
        > max(random["digit"]),
        "digit: CPC > MFCC and deltas": mean["CPC"]["digit"] > mean["MFCC and deltas"]["digit"],
        "speaker: within a point of MFCC": mean["CPC"]["speaker"] > mean["MFCC"]["speaker"] - 0.01,
        "speaker, few labels: above MFCC": mean["CPC"]["few"] > mean["MFCC"]["few"],
    }
    return Finding(
        {"read": found, "aims": aims, "test_recordings": len(lab.data.test)},
        f"CPC learns from {len(lab.data.train):,} recordings without labels. A linear decoder then "
        "reads its context's mean and deviation over each recording, beside those of 20 mel "
        "cepstral coefficients, on the official test takes. With a speaker left out, the decoder "
        "learns digits from the five others and is asked the sixth's, whose recordings CPC heard "
        "without labels.",
        f"Digits: CPC {percent(ours['digit'])} %, MFCC {percent(cepstra['digit'])} %, random "
        f"weights {percent(random['digit'])} %. Speakers with {FEW} recordings each: CPC "
        f"{percent(ours['few'])} %, MFCC {percent(cepstra['few'])} %.",
        [
            Table(
                "What can be read, test accuracy in %",
                ["", *ASKED.values()],
                [[title, *(percent(f[what]) for what in ASKED)] for title, f in found.items()],
            )
        ],
        [
            (
                "digits of the test takes",
                plots.bars_image({t: f["digit"] for t, f in mean.items()}, "digits named"),
            )
        ],
    )


def s2(lab: Lab) -> Finding:
    found: dict[str, dict[str, float]] = {}
    for among in ("others", "same", "both"):
        encoder = cpc(lab) if among == "others" else cpc(lab, negatives=among)
        found[among] = read(
            *lab.features(f"CPC {0 if among == 'others' else among}", encoder), lab.data
        )
    return Finding(
        {"negatives": found},
        "The wrong answers come from the same place of other recordings, from other places of the "
        "same recording, or both.",
        "Digits are read with "
        + ", ".join(f"{100 * f['digit']:.1f} % ({among})" for among, f in found.items())
        + ". "
        f"Those of the same recording alone need no speaker: {100 * found['same']['few']:.1f} % of "
        f"speakers with few labels, against {100 * found['others']['few']:.1f} %.",
        [
            Table(
                "By the origin of negatives, test accuracy in %",
                ["", *ASKED.values()],
                [[t, *(f"{100 * f[what]:.1f}" for what in ASKED)] for t, f in found.items()],
            )
        ],
        [
            (
                "speakers named with five recordings each",
                plots.bars_image({t: f["few"] for t, f in found.items()}, "speakers named"),
            )
        ],
    )


def s3(lab: Lab) -> Finding:
    data = open_data("tunes")
    y = data.test.factors["tune"]
    options: dict[str, Any] = {"data": data, "epochs": 20, "batch_size": 64, "lr": 1e-3}
    options |= {"encoder_args": {"width": 32, "context": 128}, "optimizer": "adam"}
    options |= {"objective": "sup_con", "dim": 128, "temperature": 0.1}
    run = lab.run("tunes", "metric", quick_epochs=1, **options)  # four recordings of each tune
    encoders: dict[str, nn.Module] = {
        "same tune, other instrument": run.encoder,
        "MFCC": Spectral(require_part(data.modality, Audio).sample_rate),
        "mel": Spectral(require_part(data.modality, Audio).sample_rate, "mel"),
        "random": lab.random("wave", data=data, width=32, context=128),
    }
    found = {}
    for title, encoder in encoders.items():
        z, z_test = lab.features(f"tunes, {title}", encoder, data)
        z_test = (z_test - z.mean(0)) / (z.std(0) + 1e-6)
        found[title] = retrieval(z_test, y, (1, 5))
    chance = (len(y) / len(np.unique(y)) - 1) / (len(y) - 1)
    ours, cepstra = (found[t]["recall@1"] for t in ("same tune, other instrument", "MFCC"))
    return Finding(
        {"retrieval": found, "chance": chance, "above": ours > max(cepstra, chance)},
        f"A small synthesizer plays {len(np.unique(data.train.factors['tune']))} tunes on ten "
        "instruments; what is learned is to join recordings of one tune. Then tunes never heard, "
        "on ten other instruments, are looked for: is the nearest recording the same tune?",
        f"It is in {100 * ours:.1f} % of the cases, with MFCC in {100 * cepstra:.1f} %, by chance "
        f"in {100 * chance:.1f} %.",
        [
            Table(
                "Tunes found on other instruments, %",
                ["", "nearest", "among the five nearest", "mAP@R"],
                [
                    [title, *(f"{100 * f[k]:.1f}" for k in ("recall@1", "recall@5", "map@r"))]
                    for title, f in found.items()
                ],
            )
        ],
        [
            (
                "the nearest recording is the same tune",
                plots.bars_image({t: f["recall@1"] for t, f in found.items()}, "tunes found"),
            )
        ],
    )


EXPERIMENTS = [
    Experiment("S1", "Spoken digits", "Does it know what was said, and by whom?", s1, 14),
    Experiment("S2", "Whence the negatives", "What do they make it forget?", s2, 9),
    Experiment("S3", "Tunes", "Is a tune known again on another instrument?", s3, 6),
]
