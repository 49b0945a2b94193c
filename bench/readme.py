"""Write the figures of results/ into README.md, guides in docs/ and docs/lectures/README.md.

`tests/slow/test_docs.py` compares them.

python bench/readme.py
"""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

from unlabeled.evaluation.intervals import wilson

ROOT = Path(__file__).parent.parent
LECTURE_TEST = 4000
LECTURES = ROOT / "docs" / "lectures"
GUIDES = [
    ROOT / "docs" / f"{name}.md"
    for name in ("index", "start", "collapse", "resuming", "results", "scaling")
]
PEERS_MEASURED = "November 2026"
"""When the results of `peers_table` were measured."""
SIDES = ("ours", "lightly")
DEMO_METRICS = {
    "linear_probe": True,
    "knn": True,
    "similarity_gap": False,
    "similarity_gap_centered": False,
}
"""Columns of the demo's table, and whether they are percentages."""


def of_before(study: dict[str, Any]) -> str:
    """A sentence for results of studies that have other conditions since 0.2.0; else empty."""
    if study["versions"]["unlabeled"] != "0.1.0":
        return ""
    return (
        " Every method had the same time; since then the study gives each the same number of "
        "operations."
    )


def few_of_before(study: dict[str, Any], but: str = "") -> str:
    """A sentence for accuracies with few labels, which have another probe since 0.2.0."""
    if study["versions"]["unlabeled"] != "0.1.0":
        return ""
    return (
        f" Accuracies with few labels{but} are those of a probe that standardized each feature by "
        "itself; that of today keeps their relative scale."
    )


def demo_table(result: dict[str, Any]) -> str:
    """Encoders of the demo, one per row."""
    lines = [
        "| | linear probe | k-NN | class-similarity gap | mean-centered gap |",
        "|---|---:|---:|---:|---:|",
    ]
    rows = {"simclr": result["metrics"]} | result["baselines"]
    for name, row in rows.items():
        title = {"simclr": "**SimCLR, no labels**", "supervised": "supervised, 16,000 labels"}
        cells = [_with_interval(row.get(key), percent) for key, percent in DEMO_METRICS.items()]
        lines.append(f"| {title.get(name, name.replace('_', ' '))} | {' | '.join(cells)} |")
    minutes = result["seconds_in_all"] / 60
    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled demo`, seed 0, {result['cores']} cores, {minutes:.1f} minutes: accuracy "
            f"for the shape on {result['n_test']:,} test images, with 95 % intervals.",
        ]
    )


def quick_table(result: dict[str, Any]) -> str:
    """SimCLR with the settings for photographs on a CPU, and its baselines, one per row."""
    rows = {"`train simclr`, no other flag": result["metrics"]}
    rows |= {name: result["baselines"][name] for name in ("histogram", "raw", "random")}
    lines = ["| | linear probe | k-NN |", "|---|---:|---:|"]
    for name, row in rows.items():
        cells = (_with_interval(row[key], True) for key in ("linear_probe", "knn"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    run, minutes = result["run"], result["training_seconds"] / 60
    return "\n".join(
        [
            *lines,
            "",
            f"`{result['command']}`, seed {run['seed']}, {minutes:.0f} minutes on "
            f"{run['versions']['threads']} thread: accuracy on {result['n_test']:,} test images, "
            "with 95 % intervals.",
        ]
    )


def _with_interval(metric: dict[str, Any] | float | None, percent: bool) -> str:
    """A value and its 95 % interval, if it has one; a dash where there is none."""
    if not isinstance(metric, dict):
        metric = {"value": metric, "low": None, "high": None}
    if metric["value"] is None:
        return "–"
    scale, digits = (100, 1) if percent else (1, 3)
    value, *ends = (
        None if metric[key] is None else f"{scale * metric[key]:.{digits}f}"
        for key in ("value", "low", "high")
    )
    unit = " %" if percent else ""
    return f"{value}{unit}" + (f" ({ends[0]}–{ends[1]})" if None not in ends else "")


def beyond_sentence(
    study: dict[str, Any], real: dict[str, Any], exact: dict[str, Any], width: dict[str, Any]
) -> str:
    """Accuracy of the LeNet, on the original images, and of other widths."""
    lenet = ""
    if result := study["experiments"]["L6"]["probe"].get("SimCLR, LeNet"):
        gap = study["experiments"]["L7"]["gaps"]["SimCLR, LeNet"]["cosine"][0]
        lenet = (
            "SimCLR with the LeNet of the Neuromatch tutorial reaches "
            f"{result['test'][0]:.2%} with a class-similarity gap of {gap:.2f}. "
        )
    return (
        f"{lenet}Trained on rendered images and tested on the original "
        f"dSprites, the encoder of the demo reaches "
        f"{real['metrics']['linear_probe']['value']:.2%}; of "
        f"{exact['real_images']:,} original images, {exact['different']} differ from the rendered "
        "ones in at least one pixel.\n\n"
        f"{width_sentence(width)}"
    )


def width_sentence(study: dict[str, Any]) -> str:
    """How far SimCLR is behind supervised training, by width."""
    behind = study["experiments"]["W1"]["behind"]
    points = [
        f"{100 * gap['value']:.1f} points with {width} "
        f"({100 * gap['low']:.1f} to {100 * gap['high']:.1f})"
        for width, gap in behind.items()
    ]
    return (
        "By linear probe, SimCLR is behind supervised training by "
        f"{', '.join(points[:-1])} and {points[-1]} channels in the first layer, each trained by "
        f"the recipe of the demo, {study['cores']} cores, seed 0: `{study['command']}`."
    )


def lecture_table(study: dict[str, Any], quick: dict[str, Any]) -> str:
    """Encoders of the lectures: probe, similarity, few labels, biased data."""
    experiments = study["experiments"]
    probe, gap = experiments["L1"]["probe"] | experiments["L6"]["probe"], experiments["L7"]["gaps"]
    curves, biased = experiments["L9"]["curves"], experiments["L10"]["test"]
    lines = [
        "| | linear probe, % | similarity gap | mean-centered gap | 160 labels | 30 labels | "
        "biased data |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("SimCLR", "supervised", "VAE", "random", "raw", "pca", "ica", "kmeans"):
        curve = curves.get(f"{name}, frozen", {"labels": []})
        few = (
            f"{curve['test'][curve['labels'].index(n)]:.1%}" if n in curve["labels"] else "–"
            for n in (160, 30)
        )
        gaps = (
            spread(gap[name][kind], 3) if name in gap else "–" for kind in ("cosine", "centered")
        )
        hard = f"{biased[name]['biased']:.1%}" if name in biased else "–"
        values = probe[name]["test"]
        accuracy = spread([100 * value for value in values], 2)
        if len(values) == 1:
            low, high = wilson(LECTURE_TEST * values[0], LECTURE_TEST)
            accuracy += f" ({100 * low:.1f}–{100 * high:.1f})"
        lines.append(f"| {name} | {accuracy} | {' | '.join(gaps)} | {' | '.join(few)} | {hard} |")
    held = [claim["held"] for claim in study["claims"].values()]
    seeds = (
        f"seeds 0 to {study['seeds'] - 1}, mean ± standard deviation; few labels and biased data "
        "seed 0"
        if study["seeds"] > 1
        else "seed 0"
    )
    return "\n".join(
        [
            *lines,
            "",
            f"`{study['command']}`, {study['cores']} cores ({seeds}): accuracy for the shape on "
            f"{LECTURE_TEST:,} test images, with 95 % intervals where one seed was trained; chance "
            f"is 33 %. Of {len(held)} claims of the lecture, {sum(h is True for h in held)} "
            f"held. {lasted(quick)}",
        ]
    )


def lasted(quick: dict[str, Any]) -> str:
    """How long the study of the lectures takes, full and quick, each measured after a demo."""
    full = quick["full"]
    ways = (
        f"{each['seconds']['study'] / 60:.0f} minutes, {each['ratio']:.1f} times as long as "
        "`unlabeled demo` in the same hour"
        for each in (full, quick)
    )
    return "One seed took {}; with `--quick` {}.".format(*ways)


def negatives_table(study: dict[str, Any]) -> str:
    """Linear probe by number of negatives, denominator of the loss, and network."""
    networks = {"N1": "small", "N2": "LeNet"}
    found = {networks[key]: figures for key, figures in study["experiments"].items()}
    columns = [
        (f"{name}, {denominator}", figures["curve"][denominator])
        for name, figures in found.items()
        for denominator in ("paper", "tutorial")
    ]
    lines = [
        f"| negative images | {' | '.join(title for title, _ in columns)} |",
        f"|---:|{'---:|' * len(columns)}",
    ]
    for count in columns[0][1]:
        cells = (spread([100 * v for v in curve[count]["probe"]], 1) for _, curve in columns)
        lines.append(f"| {count} | {' | '.join(cells)} |")
    drops = "; ".join(
        f"{100 * figures['drop_of_two']['paper']:.1f} points with the paper's denominator and "
        f"{100 * figures['drop_of_two']['tutorial']:.1f} with the tutorial's ({name})"
        for name, figures in found.items()
    )
    random = ", ".join(f"{figures['random']:.1%} ({name})" for name, figures in found.items())
    return "\n".join(
        [
            *lines,
            "",
            "Linear probe accuracy in % by the number of other images that SimCLR contrasts each "
            "image with, of 63 in the batch. The paper's denominator holds the positive, that of "
            f"the tutorial's code does not. Two negatives instead of all cost {drops}; the "
            "tutorial's own encoders lose 23.3. Random weights "
            f"have {random}. Mean ± standard deviation of {study['seeds']} seeds, 12 epochs, "
            f"{study['cores']} cores: `{study['command']}`. For the LeNet these are too few: its "
            "seeds are far apart; with 40 it learns as much as the small network (`lectures`, L6).",
        ]
    )


def family_table(study: dict[str, Any]) -> str:
    """All methods after as many operations, best first."""
    rows = study["experiments"]["M1"]["methods"]
    lines = ["| | linear probe | k-NN | epochs | minutes |", "|---|---:|---:|---:|---:|"]
    for name in sorted(rows, key=lambda n: by_size(rows[n]["linear"]["value"])):
        row = rows[name]
        shares = (_with_interval(row[key], True) for key in ("linear", "knn"))
        spent = ("–" if row[key] is None else f"{row[key]:.3g}" for key in ("epochs", "minutes"))
        lines.append(f"| `{name}` | {' | '.join((*shares, *spent))} |")
    below = ", ".join(f"`{name}`" for name in study["experiments"]["M1"]["not_above_random"])
    return "\n".join(
        [
            *lines,
            "",
            "`unlabeled study methods --only M1`: the small encoder on 16,000 dSprites, each "
            "method with its own recipe and the operations of 10 epochs of SimCLR, on one of "
            f"{study['cores']} cores, seed 0; accuracy for the shape on 4,000 test images, with "
            "95 % intervals. The recipe of `simclr` was tuned for this data, those of most others "
            "were not, so the table says what a recipe gives in a few minutes, not which method is "
            f"best. Not above random weights with intervals apart: {below or 'none'}.",
        ]
    )


def family_sentences(
    *studies: dict[str, Any],
) -> str:
    """Further results of joint-embedding methods, one line each."""
    clothes, drawings, scenes, collapse, losses, photographs = studies
    means, seeds = (clothes["experiments"]["S1"][key] for key in ("mean", "seeds"))
    few, more = means["1%"], means["10%"]
    verified = drawings["experiments"]["V1"]["verification"]
    masks = scenes["experiments"]["T1"]["settings"]
    setting = next(iter(masks["SimCLR"]))
    iou = {name: masks[name][setting][0]["miou"] for name in ("SimCLR", "supervised", "random")}
    kinds = losses["experiments"]["R1"]["test"].items()
    runs = [r for e in collapse["experiments"].values() for r in e["runs"].values()]
    collapsed = [r for r in runs if r["collapsed"]]
    missed = [
        f"{next(iter(e['runs']))} {name}"
        for e in collapse["experiments"].values()
        for name, r in e["runs"].items()
        if r["collapsed"] and r["alarm"] is None
    ]
    false = sum(r["alarm"] is not None for r in runs if r["healthy"])
    knn = {name: side["knn"] for name, side in photographs.items()}
    ratio = {
        name: photographs[f"{name} ours"]["samples_per_second"]
        / photographs[f"{name} lightly"]["samples_per_second"]
        for name in ("simclr", "byol")
    }
    return "\n".join(
        [
            "- **CIFAR-10**, 20 minutes each, compared with lightly, k-NN accuracy: SimCLR "
            f"{knn['simclr ours']:.1%} (lightly {knn['simclr lightly']:.1%}; "
            f"{ratio['simclr']:.1f}× its images per second), BYOL {knn['byol ours']:.1%} "
            f"({knn['byol lightly']:.1%}; {ratio['byol']:.1f}×): `python bench/cifar10.py`.",
            f"- **SimCLRv2** on Fashion-MNIST, {len(seeds)} seeds, accuracy with 1 % of the "
            f"labels: fine-tuned {few['finetuned']:.1%}, distilled {few['student']:.1%}, from "
            f"scratch {few['scratch']:.1%}; with 10 %: {more['finetuned']:.1%}, "
            f"{more['student']:.1%}, {more['scratch']:.1%}: `unlabeled study semi_supervised`.",
            "- **Verification** of characters of unseen alphabets (Omniglot), AUROC: Siamese "
            f"{_with_interval(verified['Siamese']['auc'], False)}, pixels "
            f"{_with_interval(verified['pixels']['auc'], False)}; 20-way one-shot accuracy: "
            f"Siamese {_with_interval(verified['Siamese']['one_shot'], True)}, pixels "
            f"{_with_interval(verified['pixels']['one_shot'], True)}: `unlabeled study "
            "verification`.",
            "- **Metric learning** on the same data, recall@1 in % with 95 % interval: "
            + ", ".join(
                f"{name} {100 * f['recall@1']:.1f} ({100 * f['low']:.1f}–{100 * f['high']:.1f})"
                for name, f in kinds
            )
            + "; hyperparameters of each loss chosen on held-out training alphabets: `unlabeled "
            "study metric`.",
            f"- **Segmentation** ({setting} encoder), mean IoU: SimCLR {iou['SimCLR']:.1%}, "
            f"supervised {iou['supervised']:.1%}, random {iou['random']:.1%}: `unlabeled study "
            "transfer`.",
            f"- **Collapse**: the alarm detected {len(collapsed) - len(missed)} of "
            f"{len(collapsed)} collapsed runs (missed: {', '.join(missed) or 'none'}), with "
            f"{false or 'no'} false alarms: `unlabeled study collapse`.",
        ]
    )


def collapse_table(study: dict[str, Any]) -> str:
    """What is left of each method without what prevents its collapse."""
    lines = ["| | linear probe | std of the features | alarm in epoch |", "|---|---:|---:|---:|"]
    for experiment in study["experiments"].values():
        for title, run in experiment["runs"].items():
            alarm = "–" if run["alarm"] is None else run["alarm"]
            lines.append(f"| {title} | {run['probe']:.1%} | {run['std']:.3f} | {alarm} |")
    random = study["experiments"]["C1"]["random"]
    lines.append(f"| random | {random['probe']:.1%} | {random['std']:.3f} | – |")
    return "\n".join([*lines, "", f"`unlabeled study collapse`, {study['cores']} cores, seed 0."])


def pretext_table(study: dict[str, Any]) -> str:
    """All pretext tasks after the same training time, best first, and reconstructions."""
    tasks, images = study["experiments"]["P1"]["tasks"], study["experiments"]["P3"]
    lines = ["| | pretext accuracy | chance | linear probe | from tiles | 1 % of labels |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    best = {n: [row["linear"], row["tiles"] or 0] for n, row in tasks.items()}
    for name in sorted(tasks, key=lambda n: min(map(by_size, best[n]))):
        row = tasks[name]
        keys = ("pretext_accuracy", "chance", "linear", "tiles", "few_labels")
        shares = " | ".join("–" if row[k] is None else f"{row[k]:.1%}" for k in keys)
        lines.append(f"| {name} | {shares} |")
    distance = images["spectral_distance"]
    color = images["errors"]["colorization: distance in a*, b*, mean over color bins"]
    return "\n".join(
        [
            *lines,
            "",
            "`unlabeled study pretext`: CIFAR-10, the same small encoder, about four minutes each "
            f"on one of {study['cores']} cores, seed 0; linear probe for the class from the image "
            "or from the average of its tiles. Spectral distance of inpainted squares: "
            f"{distance['context encoder']:.2f} with the adversarial loss, "
            f"{distance['context encoder, no adversarial loss']:.2f} without. "
            f"Error of colors in a*, b*: {color['ours']:.1f}, gray {color['gray']:.1f}."
            + of_before(study)
            + few_of_before(study, " (but for the jigsaw)"),
        ]
    )


def generative_sentences(study: dict[str, Any]) -> str:
    """Results of generative models, one line for each experiment."""
    lines = {
        "G1": samples_sentence,
        "G3": captions_sentence,
        "G4": clips_sentence,
        "G5": lambda found: f"- **Bits per pixel**: {each(found['bits'], 3)}.",
        "G6": lambda found: f"- **Bits per character**: {each(found['bits'], 2)}.",
        "G7": lambda found: (
            f"- **Time series**, mean absolute error of the next value: {each(found['error'], 3)}."
        ),
        "G8": machines_sentence,
    }
    done = study["experiments"]
    sentences = [line(done[key]) for key, line in lines.items() if key in done]
    return "\n".join(
        [*sentences, "", f"`unlabeled study generative`, {study['cores']} cores, seed 0."]
    )


def videos_sentence(study: dict[str, Any]) -> str:
    """Propagation of colors and masks."""
    halves = [study["experiments"][key]["mean"] for key in ("V1", "V2")]
    error = {way: statistics.mean(half[way] for half in halves) for way in halves[0]}
    masks = study["experiments"]["V3"]["propagated"]
    return (
        "Video colorization: error of colors propagated over ten frames of real videos (a*, b*) "
        f"{error['learned']:.2f}, copied {error['copied']:.2f}, with gray patches "
        f"{error['gray patches']:.2f}; intersection over union of propagated masks of sprites "
        f"{masks['learned']['front']:.2f}, copied {masks['copied']['front']:.2f}, with gray "
        f"patches {masks['gray patches']['front']:.2f}: `unlabeled study video`."
    )


def audio_table(study: dict[str, Any]) -> str:
    """Linear probes of speech, and retrieval of tunes."""
    done = study["experiments"]
    probes, tunes, chance = (
        done["S1"]["linear_probe"],
        done["S3"]["retrieval"],
        done["S3"]["chance"],
    )
    titles = {
        "digit": "digit",
        "unseen_speaker": "digit, unseen speaker",
        "speaker": "speaker",
        "few_labels": "speaker, 5 labels each",
    }
    lines = [f"| | {' | '.join(titles.values())} |", "|---|---:|---:|---:|---:|"]
    for name, accuracy in probes.items():
        shares = (spread([100 * v for v in accuracy[k]], 1) for k in titles)
        lines.append(f"| {name} | {' | '.join(shares)} |")
    recall = ", ".join(f"{name} {f['recall@1']:.1%}" for name, f in tunes.items())
    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled study audio --seeds {study['seeds']}`, {study['cores']} cores: linear "
            f"probe accuracy on {done['S1']['test_recordings']} official test takes of spoken "
            f"digits, %. Retrieval of tunes on other instruments, recall@1: {recall}, chance "
            f"{chance:.1%}." + few_of_before(study),
        ]
    )


def local_table(study: dict[str, Any], motion: dict[str, Any]) -> str:
    """Accuracy by stage, memory of local learning, and the two targets of the study `motion`."""
    done, motions = study["experiments"], motion["experiments"]["M1"]["linear_probe"]
    found, epochs = done["L1"]["layers"], done["L1"]["epochs"]
    count = range(1, 1 + len(next(iter(found.values()))))
    lines = [
        f"| | {' | '.join(f'stage {i}' for i in count)} | epochs |",
        "|---|" + "---:|" * (len(count) + 1),
    ]
    for name, layers in found.items():
        shares = " | ".join(f"{layer['linear']:.1%}" for layer in layers)
        lines.append(f"| {name} | {shares} | {epochs.get(name, 0)} |")
    saved = ", ".join(f"{name} {share:.0%}" for name, share in done["L2"]["saved"].items())
    readout = done["L3"]["readout"]["CLAPP"]

    def both(factor: str) -> str:
        return ", ".join(
            f"{title} {spread([100 * v for v in f[factor]], 1)} %" for title, f in motions.items()
        )

    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled study local`: CIFAR-10 in grayscale, {study['cores']} cores, seed 0; "
            "linear probe accuracy with 10,000 labels at every stage. Memory of a step saved by "
            f"local learning: {saved}. Readout of CLAPP's features trained by reward: "
            f"{readout['reward']:.1%}, by labels: {readout['labels']:.1%}." + of_before(study),
            "",
            f"Moving sprites, linear probe accuracy for the shape: {both('shape')}; for the "
            f"velocity: {both('velocity')}: `unlabeled study motion --seeds {motion['seeds']}`.",
        ]
    )


def pairs_sentences(study: dict[str, Any]) -> str:
    """Images with captions, images with audio."""
    emoji, digits = (study["experiments"][key] for key in ("J1", "J2"))

    def recalls(results: dict[str, Any], k: int) -> str:
        first, second, chance = (v for key, v in results.items() if key.endswith(f"_recall_at_{k}"))
        ways = " and ".join(_with_interval(way, True) for way in (first, second))
        return f"{ways}, chance {100 * chance:.1f} %"

    return "\n".join(
        [
            f"- **Emoji and their names** (`clip`, {emoji['test']} of unseen families), both "
            f"directions: recall@10 {recalls(emoji['retrieval'], 10)}, recall@1 "
            f"{recalls(emoji['retrieval'], 1)}; zero-shot accuracy for the group "
            f"{_with_interval(emoji['zero_shot'], True)}, largest group "
            f"{100 * emoji['largest_group']:.1f} %.",
            f"- **Images and audio of digits** ({digits['test']} of each, unseen speakers): "
            f"recall@1 {recalls(digits['retrieval'], 1)}.",
            "",
            f"`unlabeled study pairs`, {study['cores']} cores, seed 0.",
        ]
    )


def rows_table(found: dict[str, Any]) -> str:
    """SCARF and TS2Vec beside values, PCA and random weights: all labels, and few."""
    names = ("raw", "pca", "spectrum", "random")
    head = ["data", "method", "", "learned", *names, "random forest"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    few = found["settings"]["few_labels_per_class"]
    metrics = {"linear_probe": "all labels", "linear_probe_few_labels": f"{few} labels a class"}
    for name, data in found["data"].items():
        for metric, title in metrics.items():
            cells = []
            for encoder in (data["method"], *names, "random_forest"):
                value = data["accuracy"].get(encoder, {}).get(metric)
                half = "" if not value else f" ± {100 * (value['high'] - value['value']):.1f}"
                cells.append(f"{100 * value['value']:.1f}{half}" if value else "–")
            shown = (
                (name.replace("_", " "), f"`{data['method']}`")
                if title == "all labels"
                else ("", "")
            )
            lines.append(f"| {' | '.join([*shown, title, *cells])} |")
    seeds = found["settings"]["seeds"]
    return "\n".join(
        [
            *lines,
            "",
            f"Linear probe accuracy on a fifth of the rows, %, mean of {seeds} seeds (split, "
            "weights, order) with half of the 95 % interval by Student's t; a random forest of the "
            "values has all labels. Settings were chosen on training rows: "
            "`python bench/series_tables.py`.",
        ]
    )


def words_sentences(study: dict[str, Any], vectors: dict[str, Any], by_mean: dict[str, Any]) -> str:
    """Results for text, one line each, with n-gram models, gensim and chance."""
    experiments = study["experiments"]

    def compared(result: dict[str, Any]) -> str:
        def both(key: str, scale: float, digits: int) -> str:
            runs = ([scale * r[key] for r in result["runs"][side]] for side in result["summary"])
            return " / ".join(spread(values, digits) for values in runs)

        return (
            f"WordSim-353 ρ {both('wordsim353', 1, 3)}, SimLex-999 ρ {both('simlex999', 1, 3)}, "
            f"analogies {both('analogies', 100, 1)} %, {result['speed_ratio']:.1f}× the speed"
        )

    def counted_beside(ranked: dict[str, float]) -> str:
        tfidf = f"TF-IDF {ranked['tfidf']:.1%}, " if "tfidf" in ranked else ""
        return f"{tfidf}chance {ranked['chance']:.1%}"

    models, sentences, books = experiments["W2"], experiments["W3"], experiments["W4"]["passages"]
    counted, masked = models["counted"], models["masked LM"]
    perplexity = {
        title: f["perplexity"]
        for title, f in models.items()
        if title.startswith(("causal", "bidirectional"))
    }
    n_gram = next(name for name in counted if name.endswith("-gram"))
    follows, order = sentences["next sentence"], sentences["sentence order"]
    words, parts = (sentences["word_order"][unit] for unit in ("words", "sentences"))
    next_, hidden = sentences["skip_thoughts"], sentences["masked_sentences"]
    accuracies = "; ".join(
        f"{kind} " + ", ".join(f"{100 * share:.1f}" for share, _ in books[kind].values())
        for kind in ("causal LM", "masked LM", "TF-IDF", "random")
    )
    halves = experiments["W5"]["halves"]
    return "\n".join(
        [
            f"- **Word vectors** (`word2vec` / gensim, {len(vectors['runs']['ours'])} seeds, "
            f"{vectors['tokens'] / 1e6:.1f} million words, same settings): skip-gram "
            f"{compared(vectors)}; CBOW {compared(by_mean)}: `python bench/word2vec.py`.",
            f"- **Language models**, perplexity: {each(perplexity, 1)}; unigram "
            f"{counted['unigram']:.0f}, {n_gram} {counted[n_gram]:.1f}. Masked LM: accuracy "
            f"{masked['accuracy']:.1%} (most frequent token {counted['most_frequent_class']:.1%}), "
            f"perplexity {masked['perplexity']:.1f}.",
            f"- **Sentences**: next-sentence accuracy {follows['all']:.1%} (unseen articles "
            f"{follows['articles']:.1%}, wrong half from another article {follows['within']:.1%}), "
            f"sentence-order accuracy {order['all']:.1%} (unseen articles "
            f"{order['articles']:.1%}), chance 50 %; shuffled words Kendall's τ {words['tau']:.2f} "
            f"(exact {words['exact']:.1%}), shuffled sentences {parts['tau']:.2f} "
            f"({parts['exact']:.1%}); accuracy of ranking the next sentence first "
            f"{next_['first']:.1%} ({counted_beside(next_)}), a masked one {hidden['first']:.1%} "
            f"({counted_beside(hidden)}).",
            f"- **Which book a passage is from**, accuracy in % with {', '.join(books['random'])} "
            f"labels per book: {accuracies}.",
            "- **The other half of a text**, recall@1 among 100: "
            + ", ".join(
                f"{title} {f['first_to_second_recall_at_1']:.1%}" for title, f in halves.items()
            )
            + f" (chance {next(iter(halves.values()))['chance_recall_at_1']:.1%}).",
            "",
            f"`unlabeled study words`, {study['cores']} cores, seed 0.",
        ]
    )


def each(values: dict[str, float], digits: int) -> str:
    """Names with figures, separated by commas."""
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items())


def samples_sentence(results: dict[str, Any]) -> str:
    """Fréchet distances and rarest classes of samples."""
    models = results["models"]
    frechet = each({name: f["frechet"] for name, f in models.items()}, 2)
    rarest = each({name: 100 * f["rarest_class"] for name, f in models.items()}, 1)
    return (
        f"- **Fashion-MNIST**, {results['samples']:,} samples each, evaluated by a classifier: "
        f"Fréchet distance {frechet}; share of the rarest class in %: {rarest}; diffusion has the "
        f"requested class in {models['diffusion']['class_accuracy']:.1%}."
    )


def captions_sentence(results: dict[str, Any]) -> str:
    """How often samples match their captions."""
    return (
        f"- **Captions** such as “a large heart, top left”: shape correct in "
        f"{results['shape']:.1%}, "
        f"quadrant in {results['quadrant']:.1%}, both in {results['both']:.1%}."
    )


def clips_sentence(results: dict[str, Any]) -> str:
    """Whether clips move as requested."""
    x, y = (results["correlation"][axis] for axis in "xy")
    return (
        f"- **Clips**: requested and generated velocity correlate by {x:.2f} horizontally and "
        f"{y:.2f} vertically."
    )


def machines_sentence(results: dict[str, Any]) -> str:
    """Likelihoods of binary models."""
    exact, annealed = (results["log_partition"][key] for key in ("exact", "annealed"))
    return (
        f"- **Binary models**: log Z estimated {annealed:.2f}, exact {exact:.2f}; bound of the "
        f"log-likelihood in nats per digit: {each(results['bounds'], 1)}."
    )


def by_size(value: float) -> float:
    """Sort key: largest first, withdrawn figures last."""
    return math.inf if math.isnan(value) else -value


def spread(values: list[float], digits: int) -> str:
    """Mean, with the standard deviation if there are several values."""
    if any(isinstance(value, Withdrawn) for value in values):
        return "withdrawn"
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def bench_sentence(
    steps: list[dict[str, Any]],
    losses: dict[str, Any],
    views: dict[str, Any],
    evaluated: dict[str, Any],
) -> str:
    """A table of SimCLR steps by encoder, and a sentence for the rest."""
    rows = []
    for result in steps:
        for batch in sorted({row["batch"] for row in result["rows"]}):
            here = [row for row in result["rows"] if row["batch"] == batch]
            sides = [r for r in here if r.get("side", "").startswith("lightly")]
            low = min(r["over ours bf16"] for r in sides if "bf16" in r["side"])
            single = min(r["over ours fp32"] for r in sides if "fp32" in r["side"])
            default = next(r["default to default"] for r in here if "side" not in r)
            alone, workers = (default[f"lightly fp32{w}"] for w in ("", ", 2 workers"))
            rows.append(
                f"| {result['encoder']} | {batch} | {low:.2f}× | {single:.2f}× "
                f"| {alone:.2f}× | {workers:.2f}× |"
            )
    large = losses["pairs"]["8192"]
    theirs = large["lightly"]
    smaller = theirs["extra_megabytes"] / large["ours"]["extra_megabytes"]
    turned, colored, blurred = (v["torchvision"] for v in views["views"].values())
    return "\n".join(
        [
            "Speed of a SimCLR training step relative to lightly (its transforms and loss; same "
            "images, encoder, batch and threads; alternated in one process, medians; the fastest "
            f"variant of lightly), `make bench` on {steps[0]['cores']} cores:",
            "",
            "| encoder | batch | bf16 | fp32 | defaults | lightly with 2 workers |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
            "",
            f"NT-Xent of 8,192 pairs with its gradient is {theirs['over_ours']:.1f}× as fast as "
            f"lightly's with {smaller:.0f}× less memory. On one thread, rotation, translation and "
            f"scale are {turned['compiled_over_it']:.1f}× as fast as torchvision's "
            f"({turned['plain_over_it']:.1f}× without a compiler), crop and color jitter "
            f"{colored['compiled_over_it']:.1f}×, with blur {blurred['compiled_over_it']:.1f}×. "
            f"k-NN is {evaluated['knn']['ratio']:.1f}× as fast as scikit-learn's brute force, "
            f"similarities of all pairs {evaluated['rsa']['ratio']:.1f}× as fast as rsatoolbox's. "
            "[Full table](docs/bench.md).",
        ]
    )


def headline(result: dict[str, Any]) -> str:
    """The demo in one sentence."""
    rows = {"SimCLR": result["metrics"]} | result["baselines"]
    accuracy = {name: _with_interval(row["linear_probe"], True) for name, row in rows.items()}
    return (
        f"Linear probe accuracy for the shape on {result['n_test']:,} test images: **SimCLR "
        f"without labels {accuracy['SimCLR']}**, the same network with {result['n_train']:,} "
        f"labels {accuracy['supervised']}, random weights {accuracy['random']}, pixels "
        f"{accuracy['raw']}. `unlabeled demo`, {result['cores']} cores, "
        f"{result['seconds_in_all'] / 60:.1f} minutes; "
        "95 % intervals."
    )


def peers_table(
    step: dict[str, Any],
    losses: dict[str, Any],
    views: dict[str, Any],
    evaluated: dict[str, Any],
    vectors: dict[str, Any],
    folder: dict[str, Any],
    *,
    photographs: dict[str, dict[str, Any]],
) -> str:
    """The peers of the README in a few rows, with versions."""
    default = next(row["default to default"] for row in step["rows"] if "side" not in row)
    alone = min(v for name, v in default.items() if name.startswith("lightly"))
    pairs = losses["pairs"]["8192"]
    memory = pairs["lightly"]["extra_megabytes"] / pairs["ours"]["extra_megabytes"]
    affine, colors, _ = views["views"].values()
    knn = {name: photographs[f"simclr {name}"]["knn"] for name in SIDES}
    rows = [
        ("SimCLR on CIFAR-10, 20 minutes each: k-NN accuracy", "lightly",
         f"{knn['ours']:.1%}, theirs {knn['lightly']:.1%}"),
        ("SimCLR step of 256 images, defaults of each", "lightly", f"{alone:.1f}× as fast"),
        ("NT-Xent of 8,192 pairs with its gradient", "lightly",
         f"{pairs['lightly']['over_ours']:.1f}× as fast, {memory:.0f}× less memory"),
        ("rotation, translation and scale of images", "torchvision",
         f"{affine['torchvision']['compiled_over_it']:.1f}× as fast"),
        ("crop and color jitter", "kornia", f"{colors['kornia']['compiled_over_it']:.1f}× as fast"),
        ("reading a folder of images", "DataLoader with Pillow",
         f"{folder['decoding']['ratio']:.1f}× as fast"),
        ("20 nearest neighbors", "scikit-learn, brute force",
         f"{evaluated['knn']['ratio']:.1f}× as fast"),
        ("similarity matrix of all pairs", "rsatoolbox",
         f"{evaluated['rsa']['ratio']:.1f}× as fast"),
        ("skip-gram word vectors", "gensim", f"{vectors['speed_ratio']:.1f}× as fast"),
    ]  # fmt: skip
    listed = (ROOT / "bench" / "requirements.txt").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^([\w-]+)==([\d.]+)$", listed, re.MULTILINE))
    named = ("lightly", "torchvision", "kornia", "rsatoolbox", "gensim")
    return "\n".join(
        [
            "| | compared with | unlabeled |",
            "|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
            f"{PEERS_MEASURED}, {step['cores']} cores, PyTorch "
            f"{step['versions']['torch'].partition('+')[0]}, "
            + ", ".join(f"{name} {versions[name]}" for name in named)
            + ". [All comparisons](docs/bench.md), [all results](docs/results.md).",
        ]
    )


def survival_sentence(kills: dict[str, Any], folder: dict[str, Any], page: dict[str, Any]) -> str:
    """Resumed runs, damaged images and the speed of the explore page."""
    runs = [kills["dsprites"], kills["folder"]]
    same, trials = (sum(r[key] for r in runs) for key in ("identical", "trials"))
    restored = sum(case["identical"] for case in kills["damage"])
    decoding = folder["decoding"]
    memory = max(step["largest_process_so_far_mb"] for step in folder["steps"])
    return (
        f"`python bench/survival.py`: {trials} runs were killed at {sum(r['kills'] for r in runs)} "
        f"random moments and resumed; {same} ended with the same bytes, as did {restored} of "
        f"{len(kills['damage'])} with a damaged checkpoint. `python bench/folder.py`: of "
        f"{folder['images']:,} images of mixed formats, {folder['listed_as_left_out']} of 100 "
        f"damaged ones were listed; memory was at most {memory:,} MB per process; "
        f"{decoding['samples_per_second']:,} images per second were decoded, "
        f"{decoding['ratio']:.1f}× a DataLoader with Pillow. `python bench/explore.py`: the page "
        f"of {page['images']:,} images has {page['page_megabytes']:.1f} MB, paints after "
        f"{page['first_paint_ms']:.0f} ms and responds to a click in "
        f"{page['click_to_paint_ms']['median']:.0f} ms ({kills['cores']} cores)."
    )


class Withdrawn(float):
    """A figure that depended on a bug: kept in its file, shown as "withdrawn"."""

    def __new__(cls, _: float = math.nan) -> Withdrawn:
        return super().__new__(cls, math.nan)

    def __format__(self, _: str) -> str:
        return "withdrawn"

    def __mul__(self, _: float) -> Withdrawn:
        return self

    __rmul__ = __truediv__ = __mul__


def notebooks_table(texts: dict[str, str], times: dict[str, Any]) -> str:
    """Notebooks with their questions, and the time that they take where it was measured.

    Args:
        texts: of the notebooks, by name.
        times: the results of `bench/notebooks.py`, if there are some.
    """
    seconds = times.get("seconds", {})
    lines = []
    for name, text in texts.items():
        title = re.search(r"^# (.*)", text, re.MULTILINE)
        question = re.search(r"^\*\*Question\.\*\* (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
        if title is None or question is None:
            raise SystemExit(f"{name}.md has no title or no question")
        cells = [f"[{title[1]}]({name}.md)", " ".join(question[1].split())]
        if seconds:
            cells.append(f"{seconds[name] / 60:.1f} min" if name in seconds else "–")
        lines.append(f"| {' | '.join(cells)} | [.ipynb](ipynb/{name}.ipynb) |")
    head = ["| notebook | question |" + " time |" * bool(seconds) + " |"]
    head.append("|---|---|" + "---:|" * bool(seconds) + "---|")
    under = []
    if seconds:
        under = ["", f"Times on {times['cores']} cores: `python bench/notebooks.py`."]
    return "\n".join([*head, *lines, *under])


def filled_lectures(text: str) -> str:
    """Page of the notebooks with its table regenerated."""
    notebooks = sorted(LECTURES.glob("[0-9][0-9]-*.md"))
    measured = (ROOT / "results" / "notebooks.json").is_file()
    texts = {path.stem: path.read_text(encoding="utf-8") for path in notebooks}
    return replaced(
        text, "notebooks", notebooks_table(texts, result("notebooks.json") if measured else {})
    )


def replaced(text: str, name: str, block: str) -> str:
    """A document with another content between the marks of that name."""
    return re.sub(
        rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)",
        lambda match: f"{match[1]}{block}\n{match[2]}",
        text,
        flags=re.DOTALL,
    )


def without(value: Any, path: list[str]) -> Any:
    """Replace all numbers at or below `path` by `Withdrawn`; `*` matches any key.

    Raises:
        SystemExit: there is nothing at `path`.
    """
    if path and isinstance(value, dict):
        keys = list(value) if path[0] == "*" else path[:1]
        if path[0] != "*" and path[0] not in value:
            raise SystemExit(f"there is no '{path[0]}' to withdraw among {', '.join(value)}")
        return value | {key: without(value[key], path[1:]) for key in keys}
    if isinstance(value, dict):
        return {key: without(inner, []) for key, inner in value.items()}
    if isinstance(value, list):
        return [without(inner, []) for inner in value]
    return Withdrawn() if isinstance(value, float | int) else value


def result(file: str) -> dict[str, Any]:
    """Read a result; numbers at the paths in its key `withdrawn` are replaced."""
    content = json.loads((ROOT / "results" / file).read_text())
    for path in content.get("withdrawn", {}):
        content = without(content, path.split("/"))
    return content


def filled(text: str) -> str:
    """README text with its marked blocks regenerated."""
    beyond = ("lectures.json", "simclr_dsprites_real.json", "renderer.json", "width.json")
    survived = ("survival.json", "folder.json", "explore_page.json")
    vectors = ("words.json", "word2vec.json", "word2vec_cbow.json")
    family = ("semi_supervised", "verification", "transfer", "collapse", "metric")
    pairs = [f"{name} {side}" for name in ("simclr", "byol") for side in SIDES]
    sides = {pair: result(f"cifar10_{pair.replace(' ', '_')}.json") for pair in pairs}
    benches = ("simclr_step", "objectives", "augmentation", "evaluation")
    peers = [*(f"bench_{name}.json" for name in benches), "word2vec.json", "folder.json"]
    for name, block in (
        ("headline", headline(result("demo.json"))),
        ("peers", peers_table(*map(result, peers), photographs=sides)),
        ("survival", survival_sentence(*map(result, survived))),
        ("demo", demo_table(result("demo.json"))),
        ("quick", quick_table(result("photographs.json"))),
        ("beyond", beyond_sentence(*map(result, beyond))),
        ("lectures", lecture_table(result("lectures.json"), result("lectures_quick.json"))),
        ("negatives", negatives_table(result("negatives.json"))),
        ("family", family_table(result("methods.json"))),
        (
            "further",
            family_sentences(*(result(f"{study}.json") for study in family), sides),
        ),
        ("collapse", collapse_table(result("collapse.json"))),
        ("pretext", pretext_table(result("pretext.json"))),
        ("videos", videos_sentence(result("video.json"))),
        ("generative", generative_sentences(result("generative.json"))),
        ("audio", audio_table(result("audio.json"))),
        ("pairs", pairs_sentences(result("pairs.json"))),
        ("rows", rows_table(result("series_tables.json"))),
        ("words", words_sentences(*map(result, vectors))),
        ("local", local_table(result("local.json"), result("motion.json"))),
        (
            "bench",
            bench_sentence(
                [result(f"bench_simclr_step{which}.json") for which in ("", "_lenet")],
                *(
                    result(f"bench_{of}.json")
                    for of in ("objectives", "augmentation", "evaluation")
                ),
            ),
        ),
    ):
        text = replaced(text, name, block)
    return text


def filled_guide(text: str) -> str:
    """A page of docs/ with its marked blocks regenerated; links lead from there."""
    return filled(text).replace("](docs/", "](")


def pages() -> dict[Path, str]:
    """Each page with figures, as it should be."""
    fills = {ROOT / "README.md": filled, LECTURES / "README.md": filled_lectures}
    fills |= dict.fromkeys(GUIDES, filled_guide)
    return {page: fill(page.read_text(encoding="utf-8")) for page, fill in fills.items()}


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
