"""Width: does a wider network close the gap between SimCLR and supervised training?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unlabeled.evaluation.intervals import Difference, paired_difference
from unlabeled.evaluation.probe import Probe
from unlabeled.report import figures, plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, percent, with_interval
from unlabeled.studies.side_by_side import Training

TITLE = "Width: does a wider network close the gap to supervision?"
LEAD = (
    "The same network, narrow and wide, learns by SimCLR without labels and from labels. How far "
    "does SimCLR stay behind at each width?"
)
DATA = "dsprites"
CLAIMS = {14: "Wider networks close the gap to supervision."}
METHODS = {"SimCLR": "simclr", "supervised": "supervised"}


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    widths: tuple[int, ...] = (2, 4, 8, 16)  #: channels of the first layer; features are 8 times


SETTINGS = Settings()
QUICK = Settings(widths=(2, 8))


def training(title: str, width: int) -> Training:
    """A training of the small network with that width, by the method's recipe for the data."""
    options = {"encoder": "small", "encoder_args": {"width": width}}
    return Training(f"{METHODS[title]}-{width}", METHODS[title], 0, None, options)


def trainings(lab: Lab, keys: Sequence[str]) -> list[Training]:
    """Trainings that these experiments need."""
    return [training(title, width) for title in METHODS for width in lab.settings.widths]


def probes(lab: Lab, width: int) -> dict[str, Probe]:
    """Linear probes for the shape of both methods' features and of random weights."""
    results = {}
    for title in METHODS:
        job = training(title, width)
        results[title] = lab.probe(job.name, lab.trained(job).encoder, "shape")
    random = lab.random("small", width=width)
    return results | {"random": lab.probe(f"random {width}", random, "shape")}


def w1(lab: Lab) -> Finding:
    y = lab.labels("shape")[1]
    accuracy: dict[int, dict[str, dict[str, float]]] = {}
    behind: dict[int, Difference] = {}
    for width in lab.settings.widths:
        found = probes(lab, width)
        accuracy[width] = {t: with_interval(probe.test, len(y)) for t, probe in found.items()}
        ours, theirs = (found[title].predicted == y for title in METHODS)
        behind[width] = paired_difference(theirs, ours)
    titles = ["SimCLR", "supervised", "random"]
    rows = []
    for width, values in accuracy.items():
        gap: Any = {k: v for k, v in asdict(behind[width]).items() if k != "p"}
        rows.append(
            [str(width), str(8 * width), *(percent(values[t]) for t in titles), percent(gap)]
        )
    narrow, wide = (behind[width] for width in (min(behind), max(behind)))
    lines = {t: (list(accuracy), [a[t]["value"] for a in accuracy.values()]) for t in titles}
    chart = figures.curves(lines, xlabel="width", ylabel="linear probe accuracy", log=True)
    why = (
        f"{100 * narrow.value:.1f} points behind ({100 * narrow.low:.1f}–{100 * narrow.high:.1f}) "
        f"at width {min(behind)}, {100 * wide.value:.1f} ({100 * wide.low:.1f}–"
        f"{100 * wide.high:.1f}) at {max(behind)}; depth was not varied"
    )
    return Finding(
        {
            "accuracy": {str(width): values for width, values in accuracy.items()},
            "behind": {str(width): asdict(gap) for width, gap in behind.items()},
        },
        "Four convolutions with 1, 2, 4 and 8 times as many channels as the width. Each method is "
        "trained by its recipe; the linear probe is for the shape. The difference, supervised "
        "minus SimCLR, has the interval of a paired test on the same images.",
        f"SimCLR is {why}.",
        [
            Table(
                "Linear probe accuracy, %, with 95 % interval",
                ["width", "features", *titles, "difference"],
                rows,
            )
        ],
        [("linear probe accuracy by width", plots.svg(chart))],
        {14: (wide.high < narrow.low, why)},
    )


EXPERIMENTS = [Experiment("W1", "Width", "Does width close the gap to supervision?", w1, 15)]
