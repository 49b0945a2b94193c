"""Words: language models, sentence tasks and word vectors, trained on books."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.augmentations.vocabulary import FIRST_WORD
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers import bpe, corpus
from unlabeled.data.sets import books
from unlabeled.evaluation import language
from unlabeled.evaluation.baselines import TFIDF
from unlabeled.evaluation.retrieval import paired_retrieval
from unlabeled.modality import Text, require_part
from unlabeled.pipelines.word2vec import word2vec
from unlabeled.report import plots
from unlabeled.runs import word_vectors as vectors
from unlabeled.runs.run import Run
from unlabeled.runs.word_vectors import Words
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.studies.passages import book_accuracy, book_passages
from unlabeled.training.train import reopen

TITLE = "Words: self-supervised learning from text"
LEAD = (
    "Text comes without labels, but provides its own tasks: predict a masked word, the next word, "
    "or the order of sentences. Networks trained on such tasks are compared with models that "
    "count."
)
DATA = "books"
CLAIMS = {18: "Language models predict under uncertainty: they give a distribution over words."}
LSTM: dict[str, Any] = {"direction": "causal", "width": 256, "layers": 1}
SENTENCES: dict[str, Any] = {"unit": "sentences", "epochs": 4, "lr": 3e-4}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "masked_lm": ("masked_lm", {"epochs": 4}),
    "causal_lm": ("causal_lm", {"epochs": 4}),
    "causal_lm-lstm": ("causal_lm", {"epochs": 4, "encoder": "text_lstm", "encoder_args": LSTM}),
    "bidirectional_lm": ("bidirectional_lm", {"epochs": 2}),
    "next_sentence": ("next_sentence", {"epochs": 2, "init": "masked_lm"}),
    "sentence_order": ("sentence_order", {"epochs": 3, "mlm_weight": 0.0, "init": "causal_lm"}),
    "word_order-words": ("word_order", {"unit": "words", "epochs": 10, "init": "masked_lm"}),
    "word_order-sentences": ("word_order", SENTENCES | {"init": "masked_lm"}),
    "skip_thoughts": ("skip_thoughts", {"epochs": 2, "init": "masked_lm"}),
    "masked_sentences": (
        "masked_sentences",
        {"epochs": 2, "batch_size": 64, "lr_scaling": "none", "init": "masked_lm"},
    ),
    "simcse-dropout": ("simcse", {"epochs": 1, "init": "masked_lm"}),
    "simcse-synonyms": ("simcse", {"view": "synonyms", "epochs": 1, "init": "masked_lm"}),
}
"""Method and arguments of each run; `start` is the run whose weights it is initialized with."""


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    texts: tuple[int, int] | None = None  #: training and test texts (default: all)
    perplexity_texts: int = 1000  #: test texts on which perplexities are measured
    candidates: int = 100  #: sentences among which the masked one is ranked
    word_lines: int = 1  #: every n-th line is used for word vectors
    passages: tuple[int, int] = (120, 40)  #: labeled passages and test passages of each book
    labels: tuple[int, ...] = (1, 10, 100)  #: numbers of labeled passages of each book
    draws: int = 5  #: draws of the labeled passages
    encoder_args: Mapping[str, Any] = field(default_factory=dict)  #: arguments of all encoders
    #: the books (default: those of the data set `books`)
    documents: Sequence[corpus.Document] | None = None


SETTINGS = Settings()
QUICK = Settings(texts=(1500, 300), candidates=20, word_lines=20)


def texts(lab: Lab) -> Splits:
    """The texts, or a random part of them if the settings say so."""
    if lab.settings.texts is None:
        return lab.data
    train, test = (
        part.take(np.random.default_rng(0).permutation(len(part))[:number])
        for part, number in zip((lab.data.train, lab.data.test), lab.settings.texts, strict=True)
    )
    return replace(lab.data, train=train, test=test)


def trained(lab: Lab, name: str) -> Run:
    """Train one of `RUNS` on the texts."""
    method, options = RUNS[name]
    if start := options.get("init"):
        options = options | {"init": trained(lab, start).path}
    if lab.settings.encoder_args:
        args = options.get("encoder_args", {}) | lab.settings.encoder_args
        options = options | {"encoder_args": args}
    return lab.run(name, method, data=texts(lab), quick_epochs=1, **options)


def tfidf(lab: Lab) -> TFIDF:
    """Weights of words in the training texts."""
    data = texts(lab)
    counted = TFIDF(require_part(data.modality, Text).vocabulary)
    counted.fit_weights(data.train)
    return counted


def w1(lab: Lab) -> Finding:
    """Word vectors by word2vec; `bench/word2vec.py` compares them with gensim."""
    folder, out = books.folder(), lab.out / "word2vec"
    if not (out / "word2vec.json").is_file():
        training = [d for d in lab.settings.documents or books.documents() if not d.test]
        lines = list(bpe.lines_of_words(training, re.compile("[a-z]+")))
        lines = lines[:: lab.settings.word_lines]
        word2vec(lines, out=out, epochs=8, resume=True, progress=False)
    words = vectors.load(out)
    figures: dict[str, Any] = {"words": len(words)}
    for name, file in (("wordsim353", "wordsim353.tsv"), ("simlex999", "simlex999.txt")):
        if (folder / file).is_file():
            figures[name] = words.similarity(vectors.read_pairs(folder / file))
    if (path := folder / "questions-words.txt").is_file():
        solved = words.analogies(vectors.read_analogies(path))
        correct, total = map(sum, zip(*solved.values(), strict=True))
        accuracy = correct / max(1, total)
        figures["analogies"] = {"correct": correct, "total": total, "accuracy": accuracy}
    queries = [w for w in ("whale", "king", "doctor", "monday", "white") if w in words.row]
    near: dict[str, list[str]] = {word: [n for n, _ in words.nearest(word, 6)] for word in queries}
    rho = figures.get("wordsim353", {"rho": float("nan")})["rho"]
    return Finding(
        figures | {"nearest": near},
        f"Skip-gram vectors of {len(words):,} words are trained on the books. Their cosine "
        "similarities are compared with human ratings of pairs of words.",
        f"The rank correlation with human ratings (WordSim-353) is {rho:.2f}.",
        [Table("Nearest words", ["", ""], [[w, ", ".join(n)] for w, n in near.items()])],
        [("words and their nearest neighbors", nearby(words, near))] if near else [],
    )


def nearby(words: Words, near: dict[str, list[str]]) -> str:
    """Plot words and their neighbors, each word once."""
    plotted: set[str] = set()
    groups: list[list[str]] = []
    for word, others in near.items():
        groups.append([w for w in (word, *others) if w not in plotted])
        plotted |= set(groups[-1])
    rows = [words.row[w] for group in groups for w in group]
    return plots.words_image(words.vectors[rows], groups)


def w2(lab: Lab) -> Finding:
    data, number = texts(lab), lab.settings.perplexity_texts
    runs = {
        "masked LM": trained(lab, "masked_lm"),
        "causal LM, transformer": trained(lab, "causal_lm"),
        "causal LM, LSTM": trained(lab, "causal_lm-lstm"),
        "bidirectional LM": trained(lab, "bidirectional_lm"),
    }
    vocabulary = require_part(data.modality, Text).vocabulary
    counted = language.counted(data.train, data.test, vocabulary, number)
    n_gram = next(name for name in counted if name.endswith("-gram"))
    figures: dict[str, Any] = {"counted": counted}
    rows = [[k, f"{counted[k]:.1f}", ""] for k in ("unigram", n_gram)]
    for title, run in runs.items():
        method = reopen(run)
        if title == "masked LM":
            results = language.hidden_words(method, data.test, number)
        else:
            results = {"perplexity": language.perplexity(method, data.test, number)}
        figures[title] = results
        accuracy = f"{100 * results['accuracy']:.1f}" if "accuracy" in results else ""
        rows.append([title, f"{results['perplexity']:.1f}", accuracy])
    rows.append(["most frequent token", "", f"{100 * counted['most_frequent_class']:.1f}"])
    causal = {t: f["perplexity"] for t, f in figures.items() if t.startswith("causal")}
    samples = continuations(runs["causal LM, transformer"], data)
    perplexities = {k: counted[k] for k in ("unigram", n_gram)} | causal
    return Finding(
        figures | {"samples": samples},
        f"Four language models are trained on {len(data.train):,} texts of four sentences with a "
        f"vocabulary of {vocabulary:,} tokens. The perplexity of the masked LM is that of "
        "masked tokens only, and the bidirectional LM sees later tokens, so their perplexities "
        "cannot be compared with the others.",
        f"Perplexity is {counted[n_gram]:.1f} for a {n_gram} model, {min(causal.values()):.1f} for "
        f"the best causal LM and {figures['bidirectional LM']['perplexity']:.1f} for the "
        "bidirectional LM. Masked tokens are predicted with "
        f"{100 * figures['masked LM']['accuracy']:.1f} % accuracy.",
        [
            Table("Test texts", ["", "perplexity", "accuracy, %"], rows),
            Table("Samples of the causal LM", ["prompt", "continuation"], samples),
        ],
        [("perplexity", plots.bars_image(perplexities, "perplexity", share=False))],
        claims={18: claim_of(figures)},
    )


def claim_of(figures: dict[str, Any]) -> tuple[bool, str]:
    """Whether a causal LM predicts better than n-grams, and their perplexities."""
    counted = figures["counted"]
    n_gram = next(name for name in counted if name.endswith("-gram"))
    best = min(f["perplexity"] for title, f in figures.items() if title.startswith("causal"))
    return best < counted[n_gram], (
        f"the perplexity of a causal LM is {best:.1f}, of a {n_gram} model "
        f"{counted[n_gram]:.1f} and of a unigram model {counted['unigram']:.0f}"
    )


def continuations(run: Run, data: Splits, number: int = 24) -> list[list[str]]:
    """The first words of some test texts, and their continuations by a causal LM."""
    method: Any = reopen(run)
    tokenizer = bpe.open_tokenizer(require_part(data.modality, Text).tokenizer)
    long = np.flatnonzero((data.test.x[:][:, 0, :8] >= FIRST_WORD).all(1))
    rows = long[np.linspace(0, len(long) - 1, 4).astype(int)]
    prompts = torch.from_numpy(data.test.x[rows].astype(np.int64))[:, 0, :8]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        samples = method.generate(prompts, number)
    return [[tokenizer.decode(part.tolist()) for part in (row[:8], row[8:])] for row in samples]


def w3(lab: Lab) -> Finding:
    data = texts(lab)
    rows = np.flatnonzero(data.test.factors["source"] == data.classes.index("wikipedia"))
    pairs: dict[str, dict[str, float]] = {}
    for title, name in (("next sentence", "next_sentence"), ("sentence order", "sentence_order")):
        method: Any = reopen(trained(lab, name))
        correct = language.correct_answers(method, data.test)
        within = language.correct_answers(method, data.test.take(rows))
        pairs[title] = {
            key: float(np.nanmean(shares))
            for key, shares in (("articles", correct[rows]), ("within", within), ("all", correct))
        }
    word_order = {
        unit: language.orders(reopen(trained(lab, f"word_order-{unit}")), data.test)
        for unit in ("words", "sentences")
    }
    counted, candidates = tfidf(lab), lab.settings.candidates
    method = reopen(trained(lab, "skip_thoughts"))
    next_ = language.neighbors(method, data.test)
    hits = language.similar_neighbor_hits(method, counted.words, data.test, 20)
    next_["tfidf"] = float(hits.mean())
    method = reopen(trained(lab, "masked_sentences"))
    masked = language.hidden_sentences(method, data.test, candidates)
    hits = language.similar_sentence_hits(method, counted.words, data.test, candidates)
    masked["tfidf"] = float(hits[:, 0].mean())
    figures: dict[str, Any] = pairs | {
        "test_articles": len(rows),
        "word_order": word_order,
        "skip_thoughts": next_,
        "masked_sentences": masked,
    }
    percents = {t: {k: f"{100 * v:.1f}" for k, v in f.items()} for t, f in pairs.items()}
    orders = {
        unit: f | {"chance": 1 / math.factorial(round(f["parts"]))}
        for unit, f in word_order.items()
    }
    ranked = {"next sentence": next_, "masked sentence": masked}
    bars = {f"{title} (chance 50)": f["all"] for title, f in pairs.items()}
    for unit, f in orders.items():
        bars[f"{unit} in order (chance {100 * f['chance']:.1f})"] = f["exact"]
    for title, f in ranked.items():
        bars[f"{title} (chance {100 * f['chance']:.0f})"] = f["first"]
    contexts = ("previous", "mean", "other")
    return Finding(
        figures,
        "Starting from a language model, networks are trained to predict whether two halves of a "
        "text belong together, which half comes first, the order of shuffled words and sentences, "
        "the neighboring sentences, and the masked sentence. Test texts include "
        f"{len(rows)} from Wikipedia, of which none is in the training data. The wrong half comes "
        "from any text, or (last figure) from another article.",
        f"Next-sentence accuracy is {percents['next sentence']['all']} % and sentence-order "
        f"accuracy {percents['sentence order']['all']} % (articles: "
        f"{percents['next sentence']['articles']} % and {percents['sentence order']['articles']} "
        f"%; chance: 50 %). Kendall's τ is {word_order['words']['tau']:.2f} for shuffled words and "
        f"{word_order['sentences']['tau']:.2f} for shuffled sentences.",
        [
            Table(
                "Accuracy for pairs of halves, %",
                ["", "all texts", "articles", "within articles", "chance"],
                [
                    [title, *(f[key] for key in ("all", "articles", "within")), "50.0"]
                    for title, f in percents.items()
                ],
            ),
            Table.of(
                "Reordering",
                ["Kendall's τ", "exact, %", "chance, %"],
                {f"{f['parts']:.0f} {unit}": f for unit, f in orders.items()},
                {"tau": ".2f", "exact": ".1%", "chance": ".2%"},
            ),
            Table.of(
                "Accuracy of ranking the correct sentence first, %",
                ["network", "TF-IDF", "chance"],
                ranked,
                {"first": ".1%", "tfidf": ".1%", "chance": ".1%"},
            ),
            Table(
                "Perplexity of the next sentence",
                ["given the previous one", "given the mean of all", "given another one"],
                [[f"{next_[f'perplexity_given_{c}']:.1f}" for c in contexts]],
            ),
        ],
        [("accuracy and chance", plots.bars_image(bars, "accuracy"))],
    )


def sentence_encoders(lab: Lab) -> dict[str, nn.Module]:
    """Encoders of sentences, by title."""
    start = trained(lab, "masked_lm")
    return {
        "masked LM": start.encoder,
        "SimCSE, dropout": trained(lab, "simcse-dropout").encoder,
        "SimCSE, synonyms": trained(lab, "simcse-synonyms").encoder,
        "random": lab.random(start.inputs["encoder"], **start.inputs["args"]),
    }


def w4(lab: Lab) -> Finding:
    settings: Settings = lab.settings
    encoders = {"causal LM": trained(lab, "causal_lm").encoder} | sentence_encoders(lab)
    tokenizer = require_part(lab.data.modality, Text).tokenizer
    documents = settings.documents or books.documents()
    passages = book_passages(documents, tokenizer, settings.passages)
    results = book_accuracy(lab, encoders, passages)
    last = settings.labels[-1]

    def summary(labels: int) -> str:
        titles = ("masked LM", "TF-IDF", "random")
        return ", ".join(f"{t} {100 * results[t][labels][0]:.1f} %" for t in titles)

    curves: dict[str, dict[str, list[float]]] = {
        t: {
            "labels": [n * len(passages.classes) for n in f],
            "test": [mean for mean, _ in f.values()],
            "sd": [sd for _, sd in f.values()],
        }
        for t, f in results.items()
    }
    table = Table(
        "Accuracy, % (mean and standard deviation over draws)",
        ["", *(f"{n} per book" for n in settings.labels)],
        [
            [t, *(f"{100 * mean:.1f} ± {100 * sd:.1f}" for mean, sd in f.values())]
            for t, f in results.items()
        ],
    )
    return Finding(
        {"passages": {t: {str(n): v for n, v in f.items()} for t, f in results.items()}},
        f"Which of {len(passages.classes)} books is a passage of four sentences from? Names of "
        "people and places are removed. Test passages are from the last twentieth of each book, "
        "which no network was trained on. Linear probes are trained on "
        f"{', '.join(map(str, settings.labels))} passages of each book, with {settings.draws} "
        "draws.",
        f"Accuracy with {last} passages of each book: {summary(last)}; with one: {summary(1)}.",
        [table],
        [("accuracy by number of labels", plots.label_curves_image(curves))],
    )


def w5(lab: Lab) -> Finding:
    test = texts(lab).test
    encoders: dict[str, Any] = {**sentence_encoders(lab), "TF-IDF": tfidf(lab).words}
    figures = {title: halves(encoder, test) for title, encoder in encoders.items()}
    first, ten = (f"first_to_second_recall_at_{k}" for k in (1, 10))
    recall = {title: f[first] for title, f in figures.items()}
    caption = "Retrieval of the other half of a text, %"
    table = Table.of(caption, ["recall@1", "recall@10"], figures, {first: ".1%", ten: ".1%"})
    return Finding(
        {"halves": figures},
        "SimCSE learns that two views of a sentence are similar: views with different dropout, or "
        "with some words replaced by similar ones. The first two sentences of a text are then used "
        "to retrieve the other two among those of 100 texts. TF-IDF compares the words themselves.",
        f"Recall@1: {', '.join(f'{t} {100 * v:.1f} %' for t, v in recall.items())}"
        f" (chance: {100 * figures['random']['chance_recall_at_1']:.1f} %).",
        [table],
        [("recall@1", plots.bars_image(recall, "recall@1"))],
    )


@torch.no_grad()
def halves(encoder: Any, samples: Samples, candidates: int = 100) -> dict[str, float]:
    """Retrieval between the halves of texts, averaged over groups of candidates."""
    groups: list[dict[str, float]] = []
    with torch.random.fork_rng(devices=[]):
        for batch in language.batches(samples, 10 * candidates, candidates):
            if len(batch.x) == candidates:
                first, second = (encoder(part).numpy() for part in batch.x.chunk(2, dim=1))
                groups.append(paired_retrieval(first, second, (1, 10), names=("first", "second")))
    return {key: float(np.mean([group[key] for group in groups])) for key in groups[0]}


EXPERIMENTS = [
    Experiment("W1", "Word vectors", "Which words are similar?", w1, 2),
    Experiment("W2", "Language models", "Do networks predict better than n-gram models?", w2, 150),
    Experiment("W3", "Sentences", "Are halves, neighbors and order recognized?", w3, 75),
    Experiment("W4", "Books", "How good are features with few labels?", w4, 20),
    Experiment("W5", "Sentence similarity", "Do the halves of a text find each other?", w5, 1),
]
