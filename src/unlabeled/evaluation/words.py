"""Evaluate word vectors by questions whose answers are known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from unlabeled.errors import UserError, notice
from unlabeled.evaluation.metric import Value
from unlabeled.evaluation.metrics.word_vectors import correlation, solved
from unlabeled.runs import word_vectors
from unlabeled.runs.safety import inside
from unlabeled.utils.files import write_json

FILES = {
    "similarity": "pairs of words with people's ratings, such as WordSim-353 or SimLex-999",
    "analogies": "analogies, such as questions-words.txt",
}


def evaluate_words(
    run: str | Path, similarity: str | Path | None = None, analogies: str | Path | None = None
) -> dict[str, Any]:
    """Evaluate the word vectors of a run folder, and write `evaluation.json` into it.

    Args:
        run: folder that `word2vec` wrote.
        similarity: file of pairs of words with people's ratings.
        analogies: file of analogies.

    Returns:
        as `unlabeled.evaluate`, with the metrics `similarity` and `analogies`, where files are
        given; `n_train` is the number of words that have vectors, `n_test` that of questions.

    Raises:
        UserError: no file is given, or one cannot be read.
    """
    files = {"similarity": similarity, "analogies": analogies}
    missing = [f"--{name} FILE with {FILES[name]}" for name, file in files.items() if not file]
    if len(missing) == len(files):
        raise UserError(f"{run} holds word vectors; to evaluate them give {' or '.join(missing)}")
    for option in missing:
        notice(f"for the other metric of word vectors give {option}")
    words = word_vectors.load(run)
    metrics: dict[str, Value] = {}
    chance: dict[str, Value] = {}
    questions = 0
    if similarity:
        pairs = word_vectors.read_pairs(similarity)
        result = words.similarity(pairs)
        n = round(result["known"] * len(pairs))
        metrics["similarity"], chance["similarity"] = correlation(result["rho"], n), Value(0.0)
        questions += n
    if analogies:
        sections = words.analogies(word_vectors.read_analogies(analogies))
        correct, asked = (sum(column) for column in zip(*sections.values(), strict=True))
        metrics["analogies"], chance["analogies"] = solved(correct, asked), Value(1 / len(words))
        questions += asked
    evaluation = {
        "run": Path(run).name,
        "method": "word2vec",
        "data": ", ".join(Path(file).name for file in files.values() if file),
        "modality": "text",
        "target": None,
        "n_train": len(words),
        "n_test": questions,
        "metrics": {key: asdict(value) for key, value in metrics.items()},
        "baselines": {"chance": {key: asdict(value) for key, value in chance.items()}},
    }
    write_json(inside(Path(run).expanduser(), "evaluation.json"), evaluation)
    return evaluation
