"""Count the n-grams of the study `words` again, without training its models.

python bench/words_rows.py

Their perplexity replaces that in results/words.json, also in the claim that rests on it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from unlabeled.data.open import open_data
from unlabeled.evaluation.language import counted
from unlabeled.modality import Text, require_part
from unlabeled.studies import words
from unlabeled.studies.lab import Lab, Scale
from unlabeled.utils.files import write_json

RESULT = Path(__file__).parent.parent / "results" / "words.json"


if __name__ == "__main__":
    result = json.loads(RESULT.read_text())
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder), open_data(words.DATA), scale=Scale(settings=words.SETTINGS))
        data, vocabulary = words.texts(lab), require_part(lab.data.modality, Text).vocabulary
        figures = counted(data.train, data.test, vocabulary, lab.settings.perplexity_texts)
    result["experiments"]["W2"]["counted"] = figures
    held, why = words.claim_of(result["experiments"]["W2"])
    result["claims"]["18"] |= {"held": held, "why": why}
    result.setdefault("measured_anew", []).append("python bench/words_rows.py")
    write_json(RESULT, result)
