"""Measured figures of methods as Markdown tables, from results/, for the pages of the site.

A table is shown as soon as its file has it; figures that depended on a bug are shown as withdrawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from readme import result, spread

Columns = Mapping[str, tuple[str, Callable[[Any], str]]]
"""Title of a column -> key in a row of the result, and how its value is written."""
REFERENCES = {
    *("raw", "pca", "histogram", "pixels", "pixels, 7×7", "untrained", "supervised", "gensim"),
    *("MFCC", "MFCC and deltas", "mel", "test images", "copied", "gray patches", "TF-IDF"),
    "most_frequent_class",
}
"""Rows that stand beside those of any method."""
REFERENCE_STARTS = ("chance", "random", "Kneser-Ney")
"""Beginnings of further ones, such as `random, mean`, or `Kneser-Ney, 8 characters`."""


def share(value: Any) -> str:
    """A share as a percentage: a number, one for each seed, or a value with its 95 % interval."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return spread([100 * v for v in value], 1) + " %"
    if isinstance(value, dict):
        low, high = value["low"], value["high"]
        ends = "" if low is None else f" ({100 * low:.1f}–{100 * high:.1f})"
        return f"{value['value']:.1%}{ends}"
    return f"{value:.1%}"


def number(digits: int) -> Callable[[Any], str]:
    """Write numbers with so many digits; of a mean and a deviation, both, or with an interval."""

    def write(value: Any) -> str:
        if isinstance(value, dict) and "value" in value:
            ends = (f"{value[end]:,.{digits}f}" for end in ("low", "high"))
            return f"{value['value']:,.{digits}f} ({'–'.join(ends)})"
        if isinstance(value, dict):
            return f"{value['mean']:,.{digits}f} ± {value['sd']:,.{digits}f}"
        return "–" if value is None else f"{value:,.{digits}f}"

    return write


@dataclass(frozen=True)
class Table:
    """A table of a result.

    Args:
        what: data, network and measure.
        command: that wrote the file.
        path: of the rows in results/, such as `audio.json/experiments/S1/linear_probe`; the file
            of an evaluation has those of SimCLR and its baselines. A row that is a number has it
            under the key `value`; of several stages the last one counts.
        columns: of the table.
        methods: title of a row -> method; or one method, whose are all rows but references.
    """

    what: str
    command: str
    path: str
    columns: Columns
    methods: Mapping[str, str] | str | None = None

    def rows(self) -> dict[str, Any]:
        """Rows by title; none where the result has none (yet)."""
        file, *keys = self.path.split("/")
        results = result(file)
        for key in keys:
            results = results.get(key, {})
        if "baselines" in results:  # of an evaluation
            results = {"SimCLR": results["metrics"]} | results["baselines"]
        last = {title: row[-1] if isinstance(row, list) else row for title, row in results.items()}
        return {t: row if isinstance(row, dict) else {"value": row} for t, row in last.items()}

    def method(self, title: str) -> str:
        """The method of a row; empty for a reference."""
        if isinstance(self.methods, str):
            return "" if is_reference(title) else self.methods
        return title if self.methods is None else self.methods.get(title, "")

    def markdown(self, name: str) -> str:
        """The rows of a method in bold, then the references; empty if it has no row."""
        rows = self.rows()
        own = [title for title in rows if self.method(title) == name]
        others = [title for title in rows if is_reference(title) and title not in own]
        lines = [f"| | {' | '.join(self.columns)} |", f"|---|{'---:|' * len(self.columns)}"]
        for title in [*own, *others]:
            cells = [write(rows[title].get(key)) for key, write in self.columns.values()]
            cells = ["withdrawn" if "withdrawn" in cell else cell for cell in cells]
            shown = title.replace("_", " ")
            lines.append(f"| {f'**{shown}**' if title in own else shown} | {' | '.join(cells)} |")
        text = f"{self.what}: `{self.command}`."
        return "\n".join([text, "", *lines]) if own else ""


def is_reference(title: str) -> bool:
    """Whether a row is that of no method in particular."""
    return title in REFERENCES or title.startswith(REFERENCE_STARTS)


def tables(name: str) -> list[str]:
    """All tables with figures of a method."""
    return [table for table in (each.markdown(name) for each in TABLES) if table]


SHORT: Columns = {"linear probe": ("linear", share), "k-NN": ("knn", share)}
LONG: Columns = {"linear probe": ("linear_probe", share), "k-NN": ("knn", share)}
RECALL: Columns = {"": ("value", share)}
LM: Columns = {"perplexity": ("perplexity", number(1)), "accuracy": ("accuracy", share)}
PRETEXT: Columns = {
    "pretext accuracy": ("pretext_accuracy", share),
    "chance": ("chance", share),
    "linear probe": ("linear", share),
    "from tiles": ("tiles", share),
    "1 % of labels": ("few_labels", share),
}
COLLAPSE: Columns = {
    "linear probe": ("probe", share),
    "std of features": ("std", number(3)),
    "alarm in epoch": ("alarm", number(0)),
}
SAMPLES: Columns = {
    "Fréchet distance": ("frechet", number(2)),
    "share of the rarest class": ("rarest_class", share),
    "has the requested class": ("class_accuracy", share),
}
FEW: Columns = {f"{n:,} labels": (str(n), share) for n in (6, 30, 160, 1600)}
BOOKS: Columns = {
    f"{n} per book": (str(n), lambda v: "–" if v is None else share(v[0])) for n in (1, 10, 100)
}
WORDS: Columns = {
    "WordSim-353 ρ": ("wordsim353", number(3)),
    "SimLex-999 ρ": ("simlex999", number(3)),
    "analogies": ("analogies", number(3)),
    "words per second": ("words_per_second", number(0)),
}
AUTOREGRESSIVE = dict.fromkeys(("rnn", "lstm", "transformer"), "autoregressive")
DEEP = ("1-layer DBN, untrained", "1-layer DBN", "2-layer DBN, second layer untrained",
        "2-layer DBN", "deep belief net")  # fmt: skip
MACHINES = dict.fromkeys(("Helmholtz machine, untrained", "Helmholtz machine"), "helmholtz")
LOCAL = {
    "CLAPP": "clapp", "CLAPP, local rule": "clapp", "SimCLR by stages": "simclr",
    "SimCLR, end to end": "simclr", "VICReg by stages": "vicreg", "BYOL by stages": "byol",
    "CPC by stages": "cpc", "CPC, end to end": "cpc", "CPC v2, end to end": "cpc",
    "hinge CPC, end to end": "cpc",
}  # fmt: skip
TASKS = {
    "rotation": "rotation", "relative patch": "relative_patch", "jigsaw": "jigsaw",
    "relative patch, no gap": "relative_patch", "context encoder": "context_encoder",
    "context encoder, no adversarial loss": "context_encoder", "colorization": "colorization",
    "denoising": "denoising_autoencoder", "masked autoencoder": "masked_autoencoder",
    "SimCLR": "simclr", "supervised": "supervised",
}  # fmt: skip
SEMI_SUPERVISED = {
    "Pseudo-label": "pseudo_label", "VAT + entropy minimization": "vat", "UDA": "uda",
    "FixMatch": "fixmatch", "S4L (rotation)": "s4l",
}  # fmt: skip
LANGUAGE = {
    "masked LM": "masked_lm", "causal LM, transformer": "causal_lm", "causal LM": "causal_lm",
    "causal LM, LSTM": "causal_lm", "bidirectional LM": "bidirectional_lm",
    "SimCSE, dropout": "simcse", "SimCSE, synonyms": "simcse",
}  # fmt: skip
GENERATIVE, TEXTS = "unlabeled study generative", "unlabeled study words"
RACES, AUDIO = "unlabeled study methods", "unlabeled study audio --seeds 3"

TABLES = (
    Table(
        "Rendered dSprites, accuracy for the shape of 4,000 test images with 95 % intervals",
        "unlabeled demo", "demo.json", LONG, {"SimCLR": "simclr"},
    ),
    Table(
        "CIFAR-10 as a folder of files, settings chosen for a CPU: accuracy on 10,000 test images",
        "python bench/photographs.py", "photographs.json", LONG, {"SimCLR": "simclr"},
    ),
    Table(
        "dSprites, network `small`: accuracy for the shape of test images",
        RACES, "methods.json/experiments/M1/methods", SHORT,
    ),
    Table(
        "CIFAR-10, network `small`: accuracy for the class of test images",
        RACES, "methods.json/experiments/M2/methods", SHORT,
    ),
    Table(
        "CIFAR-10, a small transformer: accuracy for the class of test images",
        RACES, "methods.json/experiments/M3/methods", SHORT,
    ),
    Table(
        "CIFAR-10, network `small`: accuracy for the class of test images",
        "unlabeled study pretext", "pretext.json/experiments/P1/tasks", PRETEXT, TASKS,
    ),
    Table(
        "CIFAR-10, a small transformer: accuracy for the class of test images",
        "unlabeled study attention", "attention.json/experiments/A1/test", SHORT,
        {"DINO": "dino", "MAE": "masked_autoencoder", "SimCLR": "simclr"},
    ),
    Table(
        "CIFAR-10 in grayscale: accuracy of a linear probe of the last stage, 10,000 labels",
        "unlabeled study local", "local.json/experiments/L1/layers",
        {"linear probe": ("linear", share)}, LOCAL,
    ),
    *(
        Table(
            "What keeps it from collapse, on dSprites: accuracy for the shape, and the alarm",
            "unlabeled study collapse", f"collapse.json/experiments/C{i}/runs", COLLAPSE, name,
        )
        for i, name in enumerate(("simclr", "byol", "simsiam", "vicreg", "dino"), 1)
    ),
    Table(
        "dSprites: test accuracy by number of labels",
        "unlabeled study few_labels", "few_labels.json/experiments/F1/accuracy", FEW,
        SEMI_SUPERVISED,
    ),
    Table(
        "Fashion-MNIST: test accuracy with a share of the labels",
        "unlabeled study semi_supervised --seeds 3", "semi_supervised.json/experiments/S1/mean",
        {"from scratch": ("scratch", share), "linear probe": ("linear", share),
         "fine-tuned": ("finetuned", share), "distilled": ("student", share)},
        "simclr_v2",
    ),
    Table(
        "Omniglot, characters of unseen alphabets: verification, and 20-way one-shot accuracy",
        "unlabeled study verification", "verification.json/experiments/V1/verification",
        {"AUROC": ("auc", number(3)), "one-shot": ("one_shot", share)},
        {"Siamese": "siamese", "supervised contrastive": "supervised_contrastive",
         "SimCLR, no labels": "simclr"},
    ),
    Table(
        "Omniglot, characters of unseen alphabets: retrieval, by objective",
        "unlabeled study metric", "metric.json/experiments/R1/test",
        {"recall@1": ("recall@1", share), "recall@10": ("recall@10", share)}, "metric",
    ),
    Table(
        "Tunes played on other instruments: retrieval",
        AUDIO, "audio.json/experiments/S3/retrieval",
        {"recall@1": ("recall@1", share), "recall@5": ("recall@5", share)}, "metric",
    ),
    Table(
        "Spoken digits: accuracy of a linear probe on 300 test recordings",
        AUDIO, "audio.json/experiments/S1/linear_probe",
        {"digit": ("digit", share), "digit, unseen speaker": ("unseen_speaker", share),
         "speaker": ("speaker", share)},
        "cpc",
    ),
    Table(
        "Fashion-MNIST, 10,000 samples evaluated by a classifier (distance: lower is better)",
        GENERATIVE, "generative.json/experiments/G1/models", SAMPLES,
        {"VAE": "vae", "GAN": "gan", "diffusion": "diffusion"},
    ),
    Table(
        "Fashion-MNIST: accuracy of a linear probe; of diffusion by the time of the noise",
        GENERATIVE, "generative.json/experiments/G2/probe", {"linear probe": ("value", share)},
        {"VAE": "vae", "GAN": "gan", "diffusion at 0": "diffusion", "diffusion at 0.1": "diffusion",
         "diffusion at 0.3": "diffusion", "diffusion at 0.6": "diffusion"},
    ),
    Table(
        "Fashion-MNIST, black and white: bits per pixel of test images (lower is better)",
        GENERATIVE, "generative.json/experiments/G5/bits", {"bits": ("value", number(3))},
        AUTOREGRESSIVE | {"VAE, bound": "vae"},
    ),
    Table(
        "Books: bits per character (lower is better)",
        GENERATIVE, "generative.json/experiments/G6/bits", {"bits": ("value", number(2))},
        AUTOREGRESSIVE,
    ),
    Table(
        "Binary digits of 8×8 pixels: bound of the log-likelihood, nats (higher is better)",
        GENERATIVE, "generative.json/experiments/G8/bounds", {"bound": ("value", number(1))},
        dict.fromkeys(DEEP, "deep_belief_net") | MACHINES,
    ),
    Table(
        "Fashion-MNIST, binary models: accuracy of a linear probe",
        GENERATIVE, "generative.json/experiments/G8/probe", {"linear probe": ("value", share)},
        {"Boltzmann machine": "rbm"} | MACHINES | dict.fromkeys(DEEP, "deep_belief_net"),
    ),
    Table(
        "Emoji and their names, families not in the training: retrieval",
        "unlabeled study pairs", "pairs.json/experiments/J1/retrieval", RECALL, "clip",
    ),
    Table(
        "Images and audio of digits, speakers not in the training: retrieval",
        "unlabeled study pairs", "pairs.json/experiments/J2/retrieval", RECALL, "clip",
    ),
    Table(
        "Real videos: error of colors (a*, b*) propagated over ten frames (lower is better)",
        "unlabeled study video", "video.json/experiments/V1/mean", {"error": ("value", number(2))},
        "video_colorization",
    ),
    Table(
        "Moving sprites: intersection over union of propagated masks, of sprites in front, behind",
        "unlabeled study video", "video.json/experiments/V3/propagated",
        {"in front": ("front", number(2)), "behind": ("behind", number(2))},
        "video_colorization",
    ),
    Table(
        "4.2 million words of books, beside gensim with the same settings, skip-gram",
        "python bench/word2vec.py --text FOLDER --seeds 3", "word2vec.json/summary", WORDS,
        {"ours": "word2vec"},
    ),
    Table(
        "4.2 million words of books, beside gensim with the same settings, CBOW",
        "python bench/word2vec.py --text FOLDER --seeds 3 --model cbow",
        "word2vec_cbow.json/summary", WORDS, {"ours": "word2vec"},
    ),
    Table("Books, test pages", TEXTS, "words.json/experiments/W2", LM, LANGUAGE),
    Table(
        "Books, test pages: accuracy (chance 50 %), also on articles that were not in the training",
        TEXTS, "words.json/experiments/W3",
        {"accuracy": ("all", share), "unseen articles": ("articles", share)},
        {"next sentence": "next_sentence", "sentence order": "sentence_order"},
    ),
    Table(
        "Shuffled parts: Kendall's τ, and how many are restored exactly",
        TEXTS, "words.json/experiments/W3/word_order",
        {"τ": ("tau", number(2)), "exact": ("exact", share)}, "word_order",
    ),
    Table(
        "Accuracy of ranking the right sentence first",
        TEXTS, "words.json/experiments/W3",
        {"first": ("first", share), "TF-IDF": ("tfidf", share), "chance": ("chance", share)},
        {"skip_thoughts": "skip_thoughts", "masked_sentences": "masked_sentences"},
    ),
    Table(
        "Which book a passage is from: accuracy by number of labels",
        TEXTS, "words.json/experiments/W4/passages", BOOKS, LANGUAGE,
    ),
    Table(
        "The other half of a text among 100: recall@1 and recall@10",
        TEXTS, "words.json/experiments/W5/halves",
        {"recall@1": ("first_to_second_recall_at_1", share),
         "recall@10": ("first_to_second_recall_at_10", share)},
        LANGUAGE,
    ),
)  # fmt: skip
