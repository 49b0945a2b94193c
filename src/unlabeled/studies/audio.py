"""Audio: contrastive predictive coding of speech, and retrieval of tunes across instruments."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from unlabeled.data.open import open_data
from unlabeled.evaluation.few_labels import few_labels
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.retrieval import retrieval
from unlabeled.evaluation.spectral import Kind, Spectral
from unlabeled.modality import Audio, require_part
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, percent

TITLE = "Audio: contrastive predictive coding of speech, and retrieval of tunes"
LEAD = (
    "Contrastive predictive coding (CPC) learns from raw audio of spoken digits to distinguish "
    "what comes next from what does not. Do its features contain the digit and the speaker? And "
    "can a tune be retrieved when it is played on another instrument?"
)
DATA = "spoken_digits"
CLAIMS: dict[int, str] = {}
CEPSTRA: dict[str, Kind] = {"MFCC": "mfcc", "MFCC and deltas": "mfcc and deltas", "mel": "mel"}
TARGETS = {
    "digit": "digit",
    "unseen_speaker": "digit, unseen speaker",
    "speaker": "speaker",
    "few_labels": "speaker, few labels",
}


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    epochs: int = 40  #: epochs of CPC
    few: int = 5  #: labeled recordings of each speaker with few labels
    draws: int = 10  #: draws of these recordings
    tunes: Any = "tunes"  #: data of tunes


SETTINGS, QUICK = Settings(), Settings(epochs=2)


def probe(lab: Lab, name: str, encoder: nn.Module) -> dict[str, float]:
    """Linear probe accuracy for digit and speaker, with all and few labels.

    For unseen speakers, the probe is trained on all recordings of the other speakers, in turn.
    """
    z, z_test = lab.features(name, encoder)
    (digit, digit_test), (speaker, speaker_test) = map(lab.labels, ("digit", "speaker"))
    speakers = np.unique(speaker)
    labels, draws = lab.settings.few * len(speakers), lab.settings.draws
    few = few_labels(z, speaker, z_test, speaker_test, labels, draws=draws, penalty=1.0)
    every, digits = np.concatenate([z, z_test]), np.concatenate([digit, digit_test])
    by = np.concatenate([speaker, speaker_test])
    unseen = [
        linear_probe(every[by != s], digits[by != s], every[by == s], digits[by == s]).test
        for s in speakers
    ]
    return {
        "digit": linear_probe(z, digit, z_test, digit_test).test,
        "speaker": linear_probe(z, speaker, z_test, speaker_test).test,
        "few_labels": few.test,
        "unseen_speaker": float(np.mean(unseen)),
    }


def cpc(lab: Lab, seed: int = 0, **options: Any) -> nn.Module:
    name = "-".join(["cpc", *map(str, options.values())])
    options = {"epochs": lab.settings.epochs} | options
    return lab.run(name, "cpc", seed, **options).encoder


def s1(lab: Lab) -> Finding:
    runs: dict[str, list[dict[str, float]]] = {"CPC": [], "random": []}
    for seed in lab.seeds:
        runs["CPC"].append(probe(lab, f"CPC {seed}", cpc(lab, seed)))
        runs["random"].append(probe(lab, f"random {seed}", lab.random("wave", seed)))
    for title, kind in CEPSTRA.items():
        spectral = Spectral(require_part(lab.data.modality, Audio).sample_rate, kind)
        runs[title] = [probe(lab, title, spectral)]
    results = {t: {k: [run[k] for run in each] for k in TARGETS} for t, each in runs.items()}
    ours, cepstra, random = (results[title] for title in ("CPC", "MFCC", "random"))
    mean = {t: {what: float(np.mean(v)) for what, v in f.items()} for t, f in results.items()}
    above = min(ours["digit"]) > cepstra["digit"][0] > max(random["digit"])
    bars = plots.bars_image({t: f["digit"] for t, f in mean.items()}, "accuracy")
    checks = {
        "digit: CPC > MFCC > random, every seed": above,
        "digit: CPC > MFCC and deltas": mean["CPC"]["digit"] > mean["MFCC and deltas"]["digit"],
        "speaker: within a point of MFCC": mean["CPC"]["speaker"] > mean["MFCC"]["speaker"] - 0.01,
        "speaker, few labels: above MFCC": mean["CPC"]["few_labels"] > mean["MFCC"]["few_labels"],
    }
    return Finding(
        {"linear_probe": results, "checks": checks, "test_recordings": len(lab.data.test)},
        f"CPC is trained on {len(lab.data.train):,} recordings without labels. Linear probes of "
        "the mean and standard deviation of its context over each recording are compared with "
        "those of 20 mel-frequency cepstral coefficients (MFCC) on the official test takes. For "
        "unseen speakers, the probe is trained on the other five speakers; CPC was trained on "
        "recordings of all of them.",
        f"Accuracy for digits: CPC {percent(ours['digit'])} %, MFCC {percent(cepstra['digit'])} %, "
        f"random weights {percent(random['digit'])} %. Speakers with {lab.settings.few} labeled "
        f"recordings each: CPC {percent(ours['few_labels'])} %, MFCC "
        f"{percent(cepstra['few_labels'])} %.",
        [Table.of("Linear probe accuracy, %", TARGETS.values(), results, ".1%")],
        [("accuracy for digits", bars)],
    )


def s2(lab: Lab) -> Finding:
    results: dict[str, dict[str, float]] = {}
    for among in ("others", "same", "both"):
        encoder = cpc(lab) if among == "others" else cpc(lab, negatives=among)
        name = f"CPC {0 if among == 'others' else among}"
        results[among] = probe(lab, name, encoder)
    bars = plots.bars_image({t: f["few_labels"] for t, f in results.items()}, "accuracy")
    caption = "Linear probe accuracy by origin of the negatives, %"
    formats = dict.fromkeys(TARGETS, ".1%")
    table = Table.of(caption, TARGETS.values(), results, formats)
    return Finding(
        {"negatives": results},
        "Negatives are taken from other recordings at the same position, from other positions of "
        "the same recording, or both.",
        "Accuracy for digits: "
        + ", ".join(f"{100 * f['digit']:.1f} % ({among})" for among, f in results.items())
        + ". "
        f"Accuracy for speakers with few labels: {100 * results['same']['few_labels']:.1f} % with "
        "negatives from the same recording, which do not require features of the speaker, and "
        f"{100 * results['others']['few_labels']:.1f} % with negatives from others.",
        [table],
        [("accuracy for speakers with few labels", bars)],
    )


def s3(lab: Lab) -> Finding:
    data = open_data(lab.settings.tunes)
    y = data.test.factors["tune"]
    options: dict[str, Any] = {"data": data, "epochs": 20, "batch_size": 64, "lr": 1e-3}
    options |= {"encoder_args": {"width": 32, "context": 128}, "optimizer": "adam"}
    options |= {"objective": "sup_con", "dim": 128, "temperature": 0.1}
    run = lab.run("tunes", "metric", quick_epochs=1, **options)  # four recordings of each tune
    encoders: dict[str, nn.Module] = {
        "metric learning": run.encoder,
        "MFCC": Spectral(require_part(data.modality, Audio).sample_rate),
        "mel": Spectral(require_part(data.modality, Audio).sample_rate, "mel"),
        "random": lab.random("wave", data=data, width=32, context=128),
    }
    results = {}
    for title, encoder in encoders.items():
        z, z_test = lab.features(f"tunes, {title}", encoder, data)
        z_test = (z_test - z.mean(0)) / (z.std(0) + 1e-6)
        results[title] = retrieval(z_test, y, (1, 5))
    chance = (len(y) / len(np.unique(y)) - 1) / (len(y) - 1)
    bars = plots.bars_image({t: f["recall@1"] for t, f in results.items()}, "recall@1")
    ours, cepstra = (results[t]["recall@1"] for t in ("metric learning", "MFCC"))
    caption = "Retrieval of tunes on other instruments, %"
    table = Table.of(caption, ["recall@1", "recall@5", "mAP@R"], results, ".1%")
    return Finding(
        {"retrieval": results, "chance": chance, "above": ours > max(cepstra, chance)},
        f"A synthesizer plays {len(np.unique(data.train.factors['tune']))} tunes on ten "
        "instruments, and a metric is learned for which recordings of the same tune are similar. "
        "Queries are new tunes on ten other instruments: is the nearest recording the same tune?",
        f"Recall@1 is {100 * ours:.1f} %, with MFCC {100 * cepstra:.1f} % (chance: "
        f"{100 * chance:.1f} %).",
        [table],
        [("recall@1 of tunes on other instruments", bars)],
    )


EXPERIMENTS = [
    Experiment("S1", "Spoken digits", "Do features contain digit and speaker?", s1, 14),
    Experiment("S2", "Origin of negatives", "What do features lose by it?", s2, 9),
    Experiment("S3", "Tunes", "Is a tune retrieved on another instrument?", s3, 6),
]
