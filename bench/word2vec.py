"""word2vec, ours and gensim's: agreement with human ratings, analogies, and words per second.

python bench/word2vec.py --text FOLDER          writes results/word2vec.json

The folder has books_train.txt.gz and wikipedia_train.txt.gz, and the three tests of words that
gensim ships: wordsim353.tsv, simlex999.txt, questions-words.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.readers import bpe, corpus
from unlabeled.pipelines.word2vec import word2vec
from unlabeled.runs.word_vectors import Words, read_analogies, read_pairs
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

SHARED = {"window": 5, "min_count": 5}
DIM, NEGATIVES, SUBSAMPLE = 100, 5, 1e-4


def ours(lines: list[list[str]], model: str, epochs: int, threads: int, seed: int) -> Any:
    """Vectors and words per second, with the time to read the vocabulary."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        vectors = word2vec(
            lines,
            model=model,  # type: ignore[arg-type]
            dim=DIM,
            negatives=NEGATIVES,
            subsample=SUBSAMPLE,
            epochs=epochs,
            threads=threads,
            seed=seed,
            out=folder,
            progress=False,
            **SHARED,  # type: ignore[arg-type]
        )
        seconds = time.perf_counter() - started
        record = json.loads((Path(folder) / "word2vec.json").read_text())
    return vectors, epochs * record["tokens"] / seconds


def gensims(lines: list[list[str]], model: str, epochs: int, threads: int, seed: int) -> Any:
    """Vectors and words per second of gensim, without the time to read the vocabulary."""
    from gensim.models import Word2Vec

    made = Word2Vec(
        vector_size=DIM,
        negative=NEGATIVES,
        sample=SUBSAMPLE,
        sg=int(model == "skip_gram"),
        workers=threads,
        seed=seed + 1,
        **SHARED,
    )
    made.build_vocab(lines)
    started = time.perf_counter()
    made.train(lines, total_examples=len(lines), epochs=epochs)
    seconds = time.perf_counter() - started
    speed = epochs * int(sum(made.wv.get_vecattr(w, "count") for w in made.wv.index_to_key))
    return Words(made.wv.index_to_key, np.asarray(made.wv.vectors)), speed / seconds


def scored(words: Words, folder: Path) -> dict[str, float]:
    """Spearman's rho on both lists of pairs, and the fraction of analogies solved."""
    solved = words.analogies(read_analogies(folder / "questions-words.txt"))
    right, asked = map(sum, zip(*solved.values(), strict=True))
    return {
        "wordsim353": words.similarity(read_pairs(folder / "wordsim353.tsv"))["rho"],
        "simlex999": words.similarity(read_pairs(folder / "simlex999.txt"))["rho"],
        "analogies": right / asked,
    }


def main() -> None:
    """Train and evaluate both, for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", choices=("skip_gram", "cbow"), default="skip_gram")
    parser.add_argument("--out", type=Path, default=Path("results/word2vec.json"))
    args = parser.parse_args()
    files = [args.text / f"{name}_train.txt.gz" for name in ("books", "wikipedia")]
    documents = [document for file in files for document in corpus.read(file)]
    lines = list(bpe.lines_of_words(documents, re.compile("[a-z]+")))
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "gensim": []}
    for seed in range(args.seeds):
        both = (("ours", ours), ("gensim", gensims))
        for side, train in both if seed % 2 == 0 else both[::-1]:
            words, speed = train(lines, args.model, args.epochs, args.threads, seed)
            sides[side].append(scored(words, args.text) | {"words_per_second": speed})
            print(side, seed, sides[side][-1], flush=True)
    means = {
        side: {
            key: {
                "mean": statistics.mean(run[key] for run in runs),
                "sd": statistics.stdev(run[key] for run in runs) if len(runs) > 1 else 0.0,
            }
            for key in runs[0]
        }
        for side, runs in sides.items()
    }
    speeds = [means[side]["words_per_second"]["mean"] for side in ("ours", "gensim")]
    print(f"ours / gensim in words a second, {args.threads} thread(s): {speeds[0] / speeds[1]:.2f}")
    write_json(
        args.out,
        {
            "command": "python bench/word2vec.py --text FOLDER"
            f" --seeds {args.seeds} --epochs {args.epochs} --threads {args.threads}"
            f" --model {args.model}",
            "tokens": sum(map(len, lines)),
            "cores": os.cpu_count(),
            "versions": versions(),
            "speed_ratio": speeds[0] / speeds[1],
            "summary": means,
            "runs": sides,
        },
    )


if __name__ == "__main__":
    main()
