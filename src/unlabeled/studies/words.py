"""Words: what is learned from text alone, by foretelling words, sentences and their order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.augmentations.vocabulary import FIRST_WORD
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers import bpe, corpus, text
from unlabeled.data.sets import books
from unlabeled.data.split import sample_labels
from unlabeled.data.targets import Classes
from unlabeled.evaluation import language
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.retrieval import paired_retrieval
from unlabeled.modality import Text, require_part
from unlabeled.pipelines.word2vec import word2vec
from unlabeled.report import plots
from unlabeled.runs import word_vectors as vectors
from unlabeled.runs.run import Run
from unlabeled.runs.word_vectors import Words
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training.train import reopen

TITLE = "Words: what text alone teaches"
LEAD = (
    "Nobody labels what people write, and yet a text asks its own questions: which word is hidden "
    "here, what comes next, which sentence came first? Networks that learn to answer are set "
    "beside models that only count."
)
DATA = "books"
CLAIMS = {18: "Language predicts under uncertainty: it can give a distribution over words."}
ASKED = 1000
"""Texts of the test part that perplexities are measured on."""
PASSAGES, ASKED_PASSAGES, DRAWS = 120, 40, 5
"""Of each book, that could be labeled, that are asked for, and draws of those with labels."""
LABELS = (1, 10, 100)
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "masked": ("masked_lm", {"epochs": 4}),
    "next": ("causal_lm", {"epochs": 4}),
    "next-lstm": (
        "causal_lm",
        {
            "epochs": 4,
            "encoder": "text_lstm",
            "encoder_args": {"direction": "causal", "width": 256, "layers": 1},
        },
    ),
    "sides": ("bidirectional_lm", {"epochs": 2}),
    "next-sentence": ("next_sentence", {"epochs": 2, "start": "masked"}),
    "sentence-order": ("sentence_order", {"epochs": 3, "mlm_weight": 0.0, "start": "next"}),
    "shuffled-words": ("word_order", {"unit": "words", "epochs": 10, "start": "masked"}),
    "shuffled-sentences": (
        "word_order",
        {"unit": "sentences", "epochs": 4, "lr": 3e-4, "start": "masked"},
    ),
    "neighbors": ("skip_thoughts", {"epochs": 2, "start": "masked"}),
    "hidden": ("masked_sentences", {"epochs": 2, "batch_size": 64, "start": "masked"}),
    "views": ("simcse", {"epochs": 1, "start": "masked"}),
    "synonyms": ("simcse", {"view": "synonyms", "epochs": 1, "start": "masked"}),
}
"""Method and options of each run; `start` is the run whose weights it begins with."""
NAME = re.compile(r"\b[A-Z][a-z]+\b")


def few(lab: Lab) -> Splits:
    """All texts; in a quick study some, so that a training takes a minute."""
    if not lab.quick:
        return lab.data
    train, test = (
        part.take(np.random.default_rng(0).permutation(len(part))[:number])
        for part, number in ((lab.data.train, 1500), (lab.data.test, 300))
    )
    return replace(lab.data, train=train, test=test)


def trained(lab: Lab, name: str) -> Run:
    """A run on the study's texts."""
    method, options = RUNS[name]
    if start := options.get("start"):
        options = options | {"start": trained(lab, start).path}
    return lab.run(name, method, data=few(lab), quick_epochs=1, **options)


def w1(lab: Lab) -> Finding:
    """word2vec, whose comparison with gensim is `bench/word2vec.py`."""
    place, out = books.folder(), lab.out / "word2vec"
    if not (out / "word2vec.json").is_file():
        documents = [d for d in books.documents() if not d.test]
        lines = list(bpe.lines_of_words(documents, re.compile("[a-z]+")))
        lines = lines[:: 20 if lab.quick else 1]
        word2vec(lines, out=out, epochs=8, resume=True, progress=False)
    known = vectors.load(out)
    figures: dict[str, Any] = {"words": len(known)}
    for name, file in (("wordsim353", "wordsim353.tsv"), ("simlex999", "simlex999.txt")):
        if (place / file).is_file():
            figures[name] = known.similarity(vectors.read_pairs(place / file))
    if (path := place / "questions-words.txt").is_file():
        solved = known.analogies(vectors.read_analogies(path))
        right, asked = map(sum, zip(*solved.values(), strict=True))
        figures["analogies"] = {"right": right, "asked": asked, "share": right / max(1, asked)}
    asked_for = [w for w in ("whale", "king", "doctor", "monday", "white") if w in known.row]
    near: dict[str, list[str]] = {
        word: [n for n, _ in known.nearest(word, 6)] for word in asked_for
    }
    rho = figures.get("wordsim353", {"rho": float("nan")})["rho"]
    return Finding(
        figures | {"nearest": near},
        f"Skip-gram vectors of {len(known):,} words learn from the same books. People have said of "
        "pairs of words how near they are.",
        f"The cosines of the vectors agree with people by a rank correlation of {rho:.2f}.",
        [Table("Nearest words", ["", ""], [[w, ", ".join(n)] for w, n in near.items()])],
        [("words and those nearest to them", nearby(known, near))] if near else [],
    )


def nearby(known: Words, near: dict[str, list[str]]) -> str:
    """An image of words and their neighbors, none of them twice."""
    shown: set[str] = set()
    groups: list[list[str]] = []
    for word, others in near.items():
        groups.append([w for w in (word, *others) if w not in shown])
        shown |= set(groups[-1])
    rows = [known.row[w] for group in groups for w in group]
    return plots.words_image(known.vectors[rows], groups)


def w2(lab: Lab) -> Finding:
    data = few(lab)
    made = {
        "masked words": trained(lab, "masked"),
        "next word, transformer": trained(lab, "next"),
        "next word, LSTM": trained(lab, "next-lstm"),
        "word from both sides": trained(lab, "sides"),
    }
    vocabulary = require_part(data.modality, Text).vocabulary
    counted = language.counted(data.train, data.test, vocabulary, ASKED)
    figures: dict[str, Any] = {"counted": counted}
    rows = [[f"counting, {k}", f"{counted[k]:.1f}", ""] for k in ("unigram", "trigram")]
    for title, run in made.items():
        method = reopen(run)
        if title == "masked words":
            found = language.hidden_words(method, data.test, ASKED)
        else:
            found = {"perplexity": language.perplexity(method, data.test, ASKED)}
        figures[title] = found
        told = f"{100 * found['accuracy']:.1f}" if "accuracy" in found else ""
        rows.append([title, f"{found['perplexity']:.1f}", told])
    rows.append(["always the commonest", "", f"{100 * counted['commonest']:.1f}"])
    best = min(figures[t]["perplexity"] for t in made if t.startswith("next"))
    sides = figures["word from both sides"]["perplexity"]
    said = going_on(made["next word, transformer"], data)
    return Finding(
        figures | {"said": said},
        f"Four networks read {len(data.train):,} texts of four sentences, {vocabulary:,} "
        "tokens being known to them. A perplexity is among how many tokens one would choose as "
        "blindly. That of masked words is of hidden ones only, and who reads from both sides sees "
        "what comes later: these stand beside the others, not against them.",
        f"Counting three tokens leaves {counted['trigram']:.1f}, the best network that reads on "
        f"{best:.1f}, and reading from both sides {sides:.1f}. Hidden words are guessed in "
        f"{100 * figures['masked words']['accuracy']:.1f} % of the cases.",
        [
            Table("On texts not seen before", ["", "perplexity", "right, %"], rows),
            Table("How the network goes on", ["given", "said"], said),
        ],
        [
            (
                "perplexity of the next word",
                plots.bars_image(
                    {f"counting, {k}": counted[k] for k in ("unigram", "trigram")}
                    | {t: figures[t]["perplexity"] for t in made if t.startswith("next")},
                    "perplexity",
                    share=False,
                ),
            )
        ],
        claims={
            18: (
                best < counted["trigram"],
                f"a network's distribution over words leaves {best:.1f} choices, where counting "
                f"leaves {counted['trigram']:.1f} and knowing only which words are common "
                f"{counted['unigram']:.0f}",
            )
        },
    )


def going_on(run: Run, data: Splits, number: int = 24) -> list[list[str]]:
    """The first words of some test texts, and what the network says then."""
    method: Any = reopen(run)
    tokenizer = bpe.open_tokenizer(require_part(data.modality, Text).tokenizer)
    long = np.flatnonzero((data.test.x[:][:, 0, 0, :8] >= FIRST_WORD).all(1))
    rows = long[np.linspace(0, len(long) - 1, 4).astype(int)]
    given = torch.from_numpy(data.test.x[rows].astype(np.int64))[:, 0, 0, :8]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        said = method.generate(given, number)
    return [[tokenizer.decode(part.tolist()) for part in (row[:8], row[8:])] for row in said]


def w3(lab: Lab) -> Finding:
    data = few(lab)
    rows = np.flatnonzero(data.test.factors["source"] == data.classes.index("wikipedia"))
    verdicts: dict[str, dict[str, float]] = {}
    for title, name in (("next sentence", "next-sentence"), ("order", "sentence-order")):
        one: Any = reopen(trained(lab, name))
        right = language.verdicts(one, data.test)
        among = language.verdicts(one, data.test.take(rows))
        verdicts[title] = {
            key: float(np.nanmean(shares))
            for key, shares in (("documents", right[rows]), ("among", among), ("all", right))
        }
    figures: dict[str, Any] = verdicts | {"asked": len(rows)}
    shuffled = {
        unit: language.orders(reopen(trained(lab, f"shuffled-{unit}")), data.test)
        for unit in ("words", "sentences")
    }
    near = language.neighbors(reopen(trained(lab, "neighbors")), data.test)
    candidates = 20 if lab.quick else 100
    hidden = language.hidden_sentences(reopen(trained(lab, "hidden")), data.test, candidates)
    figures.update(shuffled=shuffled, neighbors=near, hidden=hidden)

    says = {t: {k: f"{100 * share:.1f}" for k, share in of.items()} for t, of in verdicts.items()}

    def by_chance(parts: float) -> float:
        return 1 / float(np.prod(np.arange(1, parts + 1)))

    return Finding(
        figures,
        "Beginning with a network that learned words, others learn whether two halves of a "
        "text belong together, which half came first, the order of shuffled words and sentences, "
        "the sentences beside one, and which sentence is missing. They are asked about texts not "
        f"seen before, {len(rows)} of them from Wikipedia's articles of which nothing was seen; "
        "a half that does not belong comes from any text, and once more from another article.",
        f"Of halves, {says['next sentence']['all']} % are rightly told to belong together or not, "
        f"and of {says['order']['all']} % it is found which came first, of articles never seen "
        f"{says['next sentence']['documents']} % and {says['order']['documents']} %; guessing "
        f"gives 50 %. Shuffled words come back in an order of τ = {shuffled['words']['tau']:.2f}, "
        f"shuffled sentences of {shuffled['sentences']['tau']:.2f}.",
        [
            Table(
                "Of two answers the right one, %",
                ["", "of all", "of articles never seen", "articles among themselves", "chance"],
                [
                    [title, *(of[key] for key in ("all", "documents", "among")), "50.0"]
                    for title, of in says.items()
                ],
            ),
            Table(
                "Put in order again",
                ["", "Kendall's τ", "exactly, %", "by chance, %"],
                [
                    [
                        f"{f['parts']:.0f} {unit}",
                        f"{f['tau']:.2f}",
                        f"{100 * f['exact']:.1f}",
                        f"{100 * by_chance(f['parts']):.2f}",
                    ]
                    for unit, f in shuffled.items()
                ],
            ),
            Table(
                "The right sentence ranks first, %",
                ["", "right", "by chance"],
                [
                    [
                        "next, by its decoder",
                        f"{100 * near['first']:.1f}",
                        f"{100 * near['chance']:.1f}",
                    ],
                    [
                        "hidden, by its neighbors",
                        f"{100 * hidden['first']:.1f}",
                        f"{100 * hidden['chance']:.1f}",
                    ],
                ],
            ),
            Table(
                "Perplexity of the next sentence",
                ["told the one before it", "told of no text", "told another"],
                [[f"{near[k]:.1f}" for k in ("told", "untold", "misled")]],
            ),
        ],
        [
            (
                "questions answered",
                plots.bars_image(
                    {f"{t} (chance 50)": of["all"] for t, of in verdicts.items()}
                    | {
                        f"{unit} in order (chance {100 * by_chance(f['parts']):.1f})": f["exact"]
                        for unit, f in shuffled.items()
                    }
                    | {
                        f"{title} (chance {100 * f['chance']:.0f})": f["first"]
                        for title, f in (("next sentence found", near), ("hidden one", hidden))
                    },
                    "right",
                ),
            )
        ],
    )


def w4(lab: Lab) -> Finding:
    found, passages = by_book(lab)
    last = LABELS[-1]
    return Finding(
        {"passages": {t: {str(n): f for n, f in of.items()} for t, of in found.items()}},
        f"Which of {len(passages.classes)} books is a passage of four sentences from? Names of "
        "people and places are taken out, and the passages asked for are of the last twentieth of "
        f"each book, which no network has read. A linear decoder learns from 1, 10 or {last} "
        f"passages a book, {DRAWS} draws of them.",
        f"With {last} passages a book, the network of masked words names "
        f"{100 * found['masked words'][last][0]:.1f} %, "
        f"TF-IDF {100 * found['TF-IDF'][last][0]:.1f} % and "
        f"random weights {100 * found['random'][last][0]:.1f} %; with one, "
        f"{100 * found['masked words'][1][0]:.1f} %, {100 * found['TF-IDF'][1][0]:.1f} % and "
        f"{100 * found['random'][1][0]:.1f} %.",
        [
            Table(
                "Book named rightly, % and deviation over draws",
                ["", *(f"{n} a book" for n in LABELS)],
                [
                    [t, *(f"{100 * of[n][0]:.1f} ± {100 * of[n][1]:.1f}" for n in LABELS)]
                    for t, of in found.items()
                ],
            )
        ],
        [
            (
                "by the number of labels",
                plots.label_curves_image(
                    {
                        t: {
                            "labels": [n * len(passages.classes) for n in LABELS],
                            "test": [of[n][0] for n in LABELS],
                            "sd": [of[n][1] for n in LABELS],
                        }
                        for t, of in found.items()
                    }
                ),
            )
        ],
    )


def by_book(lab: Lab) -> tuple[dict[str, dict[int, tuple[float, float]]], Splits]:
    """Accuracy and deviation of each kind of features, by labels a book; and the passages."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    start = trained(lab, "masked")
    networks: dict[str, nn.Module] = {
        "masked words": start.encoder,
        "next word": trained(lab, "next").encoder,
        "two views, dropout": trained(lab, "views").encoder,
        "two views, synonyms": trained(lab, "synonyms").encoder,
        "random": lab.random(start.inputs["encoder"], **start.inputs["args"]),
    }
    passages = book_passages(require_part(lab.data.modality, Text).tokenizer)
    told = [
        as_words(part.x[:], require_part(lab.data.modality, Text).tokenizer)
        for part in (passages.train, passages.test)
    ]
    y, y_test = (part.factors["book"] for part in (passages.train, passages.test))
    samples = {
        n: [sample_labels(y, n * len(passages.classes), s) for s in range(DRAWS)] for n in LABELS
    }

    def scored(score: Any) -> dict[int, tuple[float, float]]:
        shares = {n: [score(rows) for rows in samples[n]] for n in LABELS}
        return {n: (float(np.mean(s)), float(np.std(s, ddof=1))) for n, s in shares.items()}

    found = {}
    for title, network in networks.items():
        z, z_test = lab.features(f"books, {title}", network, passages)
        found[title] = scored(
            lambda rows, z=z, t=z_test: linear_probe(z[rows], y[rows], t, y_test).test
        )
    count = TfidfVectorizer(sublinear_tf=True, min_df=1).fit(told[0])
    t, t_test = count.transform(told[0]), count.transform(told[1])

    def by_counts(rows: np.ndarray) -> float:
        model = LogisticRegression(C=10, max_iter=1000).fit(t[rows], y[rows])
        return float(model.score(t_test, y_test))

    found["TF-IDF"] = scored(by_counts)
    return found, passages


def as_words(x: np.ndarray, tokenizer: str) -> list[str]:
    """The text in rows of tokens, so that who counts reads what networks read."""
    known = bpe.open_tokenizer(tokenizer)
    return [known.decode(row[row >= FIRST_WORD].tolist()) for row in x.reshape(len(x), -1)]


def book_passages(tokenizer: str) -> Splits:
    """Passages of four sentences with names taken out, the same number of each book.

    The words that stand with a capital within sentences nine times out of ten count as names.
    """
    documents = [d for d in books.documents() if d.source == "books"]
    names = proper_names(documents)
    modality = text.modality_of(bpe.open_tokenizer(tokenizer), 32, 4)
    parts: list[Samples] = []
    for test, number in ((False, PASSAGES), (True, ASKED_PASSAGES)):
        told: list[str] = []
        y: list[int] = []
        for book, document in enumerate(d for d in documents if d.test == test):
            all_of = document.sentences
            four = [" ".join(all_of[i : i + 4]) for i in range(0, len(all_of) - 3, 4)]
            kept = [p for p in four if len(p.split()) > 30]
            chosen = np.random.default_rng(0).permutation(len(kept))[:number]
            told += [without(kept[i], names) for i in chosen]
            y += [book] * len(chosen)
        x = text.read(told, tokenizer, (4, 32))
        classes = Classes(tuple(str(b + 1) for b in range(max(y) + 1)))
        parts.append(
            Samples(x, {"book": np.array(y)}, targets={"book": classes}, modality=modality)
        )
    train, test_part = parts
    return Splits("passages", train, test_part, "book")


def proper_names(documents: Sequence[corpus.Document]) -> set[str]:
    """Words that hardly ever begin with a small letter, sentence beginnings left aside."""
    capital: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for document in documents:
        for paragraph in document.paragraphs:
            small.update(re.findall(r"\b[a-z]+\b", paragraph))
            capital.update(re.findall(r"(?<=[a-z,;] )[A-Z][a-z]+\b", paragraph))
    return {word for word, n in capital.items() if small[word.lower()] < n / 9}


def without(passage: str, names: set[str]) -> str:
    """A passage whose names are all the same."""
    return NAME.sub(lambda found: "Someone" if found[0] in names else found[0], passage)


def w5(lab: Lab) -> Finding:
    data, start = few(lab), trained(lab, "masked")
    made = {
        "masked words": start.encoder,
        "dropout": trained(lab, "views").encoder,
        "synonyms": trained(lab, "synonyms").encoder,
        "random": lab.random(start.inputs["encoder"], **start.inputs["args"]),
    }
    figures = {title: halves(encoder, data.test) for title, encoder in made.items()}
    return Finding(
        {"halves": figures},
        "Two networks learn that two views of a sentence belong together: the same words through "
        "other neurons, or words changed for near ones. Then the first two sentences of a text "
        "look for the other two among those of 100 texts.",
        "; ".join(f"{t}: {100 * f['there@1']:.1f} % find theirs first" for t, f in figures.items())
        + f", where chance is {100 * figures['dropout']['chance@1']:.1f} %.",
        [
            Table(
                "The other half of the text is among the nearest, %",
                ["", "@1", "@10"],
                [
                    [t, f"{100 * f['there@1']:.1f}", f"{100 * f['there@10']:.1f}"]
                    for t, f in figures.items()
                ],
            )
        ],
        [
            (
                "the other half is the nearest of 100",
                plots.bars_image({t: f["there@1"] for t, f in figures.items()}, "found"),
            )
        ],
    )


@torch.no_grad()
def halves(encoder: Any, samples: Samples, candidates: int = 100) -> dict[str, float]:
    """How often halves of texts find each other by their features, the mean over hundreds."""
    found: list[dict[str, float]] = []
    with torch.random.fork_rng(devices=[]):
        for batch in language.batches(samples, 10 * candidates, candidates):
            if len(batch.x) == candidates:
                first, second = (encoder(part).numpy() for part in batch.x.chunk(2, dim=2))
                found.append(paired_retrieval(first, second, (1, 10)))
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}


EXPERIMENTS = [
    Experiment("W1", "Word vectors", "Which words are near each other?", w1, 2),
    Experiment("W2", "Foretelling words", "Does a network foretell more than counts?", w2, 150),
    Experiment("W3", "Sentences", "Are halves, neighbors and order known again?", w3, 75),
    Experiment("W4", "Which book is it from?", "What are features worth with few labels?", w4, 20),
    Experiment("W5", "Same content, other words", "Do halves of a text find each other?", w5, 1),
]
