"""Metric learning: which loss brings pictures of classes together that it never saw?"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from unlabeled.encoders.base import build
from unlabeled.evaluation.retrieval import retrieval
from unlabeled.report import plots
from unlabeled.studies.study import Experiment, Finding, Lab, Table

TITLE = "Metric learning: characters never seen"
LEAD = (
    "Labels say which drawings show the same character. A good distance brings together the "
    "drawings of characters of other alphabets, too. Which of the lectures' losses finds one?"
)
DATA = "omniglot"
CLAIMS: dict[int, str] = {}
# NCE judges every pair by itself, and so wants cosines of both signs: a projection.
LOSSES: dict[str, dict[str, Any]] = {
    "contrastive": {"objective": "contrastive"},
    "triplet": {"objective": "triplet"},
    "lifted structure": {"objective": "lifted_structure"},
    "N-pair": {"objective": "n_pair"},
    "NCE": {"objective": "nce", "dim": 64, "temperature": 0.3},
    "InfoNCE": {"objective": "info_nce"},
    "soft nearest neighbour": {"objective": "soft_nearest_neighbour"},
}
EPOCHS = 12


def encoders(lab: Lab) -> dict[str, nn.Module]:
    """By loss, and what they start from."""
    found = {}
    for title, options in LOSSES.items():
        name = title.lower().replace(" ", "-")
        run = lab.run(name, "metric", quick_epochs=1, epochs=EPOCHS, **options)
        found[title] = run.encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        found["untrained"] = build("small", lab.data.channels, lab.data.size).eval()
    found["pixels"] = build("raw", lab.data.channels, lab.data.size)
    return found


def shelf(lab: Lab) -> Finding:
    y = lab.data.test.factors[str(lab.data.target)]
    classes = len(set(y.tolist()))
    found = {}
    for title, encoder in encoders(lab).items():
        z = lab.features(title, encoder)[1]
        found[title] = retrieval(z, y)
    before = max(found[name]["recall@1"] for name in ("untrained", "pixels"))
    better = [name for name in LOSSES if found[name]["recall@1"] > before]
    best = max(LOSSES, key=lambda name: found[name]["recall@1"])
    columns = ["recall@1", "recall@5", "recall@10", "map@r"]
    return Finding(
        {"test": found, "classes": classes, "pictures": len(y), "chance": _chance(y)},
        f"The same small network learns with each loss for {EPOCHS} epochs, four drawings of a "
        f"character in each batch. Then each of {len(y):,} drawings of {classes} characters of "
        "alphabets it never saw asks for its nearest, by cosine.",
        f"{best} finds another drawing of the same character first for "
        f"{100 * found[best]['recall@1']:.1f} %; the untrained network for "
        f"{100 * found['untrained']['recall@1']:.1f} %, pixels for "
        f"{100 * found['pixels']['recall@1']:.1f} %. "
        + (
            "Every loss is above both."
            if len(better) == len(LOSSES)
            else f"Not above both: {', '.join(sorted(set(LOSSES) - set(better)))}."
        ),
        [
            Table(
                "Retrieval among drawings of unseen characters, %",
                ["", "recall@1", "recall@5", "recall@10", "mAP@R"],
                [[name, *(f"{100 * f[c]:.1f}" for c in columns)] for name, f in found.items()],
            )
        ],
        [
            (
                "recall@1",
                plots.bars_picture({n: f["recall@1"] for n, f in found.items()}, "recall@1"),
            )
        ],
    )


def _chance(y: Any) -> float:
    """Of naming a drawing of the same character at random."""
    counts = torch.bincount(torch.from_numpy(y)).double()
    return float((counts * (counts - 1)).sum() / (len(y) * (len(y) - 1)))


EXPERIMENTS = [
    Experiment("R1", "Seven losses", "Which finds drawings of characters never seen?", shelf, 12),
]
