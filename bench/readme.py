"""Writes the measured figures of results/ into README.md; `tests/test_docs.py` holds them equal.

python bench/readme.py
"""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SIDES = ("ours", "lightly")


def demo_table(result: dict[str, Any]) -> str:
    """The demo's encoders, one a row."""
    lines = [
        "| | linear probe | k-NN | gap, same shape − other | gap, mean taken off |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in ({"simclr": result} | result["baselines"]).items():
        title = {"simclr": "**SimCLR, no labels**", "supervised": "supervised, 16,000 labels"}
        lines.append(
            f"| {title.get(name, name)} | {row['linear']:.2%} | {row['knn']:.2%} "
            f"| {row['similarity_gap']:.3f} | {row['similarity_gap_centered']:.3f} |"
        )
    minutes = result["seconds_in_all"] / 60
    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled demo`, seed 0, {result['cores']} cores, {minutes:.1f} minutes: shape read "
            f"by a linear decoder on {result['n_test']:,} test images; chance is 33 %.",
        ]
    )


def beyond_sentence(study: dict[str, Any], real: dict[str, Any], exact: dict[str, Any]) -> str:
    """Another network, and what holds on real images."""
    probe = study["experiments"]["L6"]["probe"]["SimCLR, LeNet"]["test"][0]
    gap = study["experiments"]["L7"]["gaps"]["SimCLR, LeNet"]["cosine"][0]
    return (
        "The tutorial's own LeNet, trained without labels in the study below, reads "
        f"{probe:.2%} with a gap of {gap:.2f}: its features have both signs. Learned from rendered "
        f"images and judged on real ones, the demo's encoder reads {real['linear']:.2%}: of "
        f"{exact['real_images']:,} real images the renderer misses {exact['different']} by a "
        "pixel or more."
    )


def lecture_table(study: dict[str, Any]) -> str:
    """The lecture's encoders: probe, similarity, few labels, biased data."""
    found = study["experiments"]
    probe, gap = found["L1"]["probe"] | found["L6"]["probe"], found["L7"]["gaps"]
    curves, biased = found["L9"]["curves"], found["L10"]["test"]
    lines = [
        "| | linear probe, % | gap | gap, mean taken off | 160 labels | 30 labels | biased data |",
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
        accuracy = spread([100 * value for value in probe[name]["test"]], 2)
        lines.append(f"| {name} | {accuracy} | {' | '.join(gaps)} | {' | '.join(few)} | {hard} |")
    held = [claim["held"] for claim in study["claims"].values()]
    seeds = "seeds 0 to {}, mean ± deviation".format(study["seeds"] - 1)
    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled study lectures --seeds {study['seeds']}`, {study['cores']} cores "
            f"({seeds if study['seeds'] > 1 else 'seed 0'}; few labels and biased data seed 0): "
            f"shape of 4,000 test images; chance is 33 %. Of the {len(held)} claims of the "
            f"lecture that it tests, {sum(h is True for h in held)} held here.",
        ]
    )


def family_table(study: dict[str, Any]) -> str:
    """Every method after the same time, best first."""
    found = study["experiments"]["M1"]["methods"]
    lines = ["| | linear probe | k-NN | epochs |", "|---|---:|---:|---:|"]
    for name in sorted(found, key=lambda n: by_size(found[n]["linear"])):
        row = found[name]
        lines.append(f"| `{name}` | {row['linear']:.1%} | {row['knn']:.1%} | {row['epochs']} |")
    minutes = max(row["minutes"] for row in found.values())
    return "\n".join(
        [
            *lines,
            "",
            "`unlabeled study methods`: the same small encoder, the same images, at most "
            f"{minutes:.0f} minutes each on {study['versions']['threads']} of {study['cores']} "
            "cores, seed 0; shape of 4,000 test images.",
        ]
    )


def family_sentences(
    *studies: dict[str, Any],
) -> str:
    """What else was measured of the joint-embedding family, one line each."""
    clothes, drawings, scenes, collapse, losses, photographs = studies
    means, seeds = (clothes["experiments"]["S1"][key] for key in ("mean", "seeds"))
    few, more = means["1%"], means["10%"]
    told = drawings["experiments"]["V1"]["verification"]
    masks = scenes["experiments"]["T1"]["settings"]
    setting = next(iter(masks["SimCLR"]))
    iou = {name: masks[name][setting][0]["miou"] for name in ("SimCLR", "supervised", "random")}
    kinds = losses["experiments"]["R1"]["test"].items()
    runs = [r for e in collapse["experiments"].values() for r in e["runs"].values()]
    fallen = [r for r in runs if r["collapsed"]]
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
            "- **CIFAR-10** for the same 20 minutes beside lightly's own, k-NN: SimCLR "
            f"{knn['simclr ours']:.1%} and {knn['simclr lightly']:.1%} ({ratio['simclr']:.1f}× its "
            f"images a second), BYOL {knn['byol ours']:.1%} and {knn['byol lightly']:.1%} "
            f"({ratio['byol']:.1f}×); `python bench/cifar10.py`.",
            f"- **Few labels** (SimCLRv2, Fashion-MNIST, {len(seeds)} seeds): with 1 % of "
            f"the labels {few['finetuned']:.1%} fine-tuned, {few['student']:.1%} its student, "
            f"{few['scratch']:.1%} from scratch; with 10 % {more['finetuned']:.1%}, "
            f"{more['student']:.1%} and {more['scratch']:.1%}; `unlabeled study semi_supervised`.",
            "- **Same or other** (Siamese, Omniglot's unseen alphabets): area under the ROC curve "
            f"{told['Siamese']['auc']:.3f}, pixels {told['pixels']['auc']:.3f}; one of 20 at the "
            f"first look {told['Siamese']['one_shot']:.1%}, pixels "
            f"{told['pixels']['one_shot']:.1%}; `unlabeled study verification`.",
            "- **Seven losses** with labels (same data, other alphabets), recall@1: "
            + ", ".join(
                f"{name} {100 * f['recall@1']:.1f} ({100 * f['low']:.1f} to {100 * f['high']:.1f})"
                for name, f in kinds
            )
            + " %, with 95 % intervals over characters; each loss with the hyperparameter that was "
            "best on held-out training alphabets; `unlabeled study metric`.",
            f"- **Transfer** to scenes ({setting}), IoU of masks: SimCLR {iou['SimCLR']:.1%}, "
            f"supervised {iou['supervised']:.1%}, random {iou['random']:.1%}; `unlabeled study "
            "transfer`.",
            f"- **Collapse**: of {len(fallen)} runs that were made to collapse the alarm rang in "
            f"{len(fallen) - len(missed)} (not {' or '.join(missed)}), of the healthy ones in "
            f"{false or 'none'}; `unlabeled study collapse`.",
        ]
    )


def pretext_table(study: dict[str, Any]) -> str:
    """Every pretext task after the same time, best first, and what is drawn."""
    found, drawn = study["experiments"]["P1"]["tasks"], study["experiments"]["P3"]
    lines = ["| | its own question | by chance | linear probe | from tiles | 1 % of labels |",
             "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    best = {n: [row["linear"], row["tiles"] or 0] for n, row in found.items()}
    for name in sorted(found, key=lambda n: min(map(by_size, best[n]))):
        row = found[name]
        told = (row[k] for k in ("answered", "chance", "linear", "tiles", "few"))
        shares = " | ".join("–" if share is None else f"{share:.1%}" for share in told)
        lines.append(f"| {name} | {shares} |")
    off = drawn["spectrum_off"]
    balanced = drawn["errors"]["colorization: distance in a*, b*, mean of a color"]
    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled study pretext`, CIFAR-10, about four minutes each on one of "
            f"{study['cores']} cores, seed 0; what is shown (of ten) is read by a linear decoder, "
            "from the whole image or from its tiles. The spectrum of a hole filled with a critic "
            f"is off by {off['context encoder']:.2f} e-folds, without by "
            f"{off['context encoder, no critic']:.2f}; colors told are off by "
            f"{balanced['ours']:.1f} (a*, b*, mean of a color), gray by {balanced['gray']:.1f}.",
        ]
    )


def generative_sentences(study: dict[str, Any]) -> str:
    """What generative models make and know, one line for each experiment that there is."""
    lines = {
        "G1": made_sentence,
        "G3": captions_sentence,
        "G4": clips_sentence,
        "G5": lambda found: f"- **The next pixel**, bits: {each(found['bits'], 3)}.",
        "G6": lambda found: f"- **The next character**, bits: {each(found['bits'], 2)}.",
        "G7": lambda found: f"- **The next value of a series**, error: {each(found['error'], 3)}.",
        "G8": machines_sentence,
    }
    done = study["experiments"]
    told = [line(done[key]) for key, line in lines.items() if key in done]
    return "\n".join([*told, "", f"`unlabeled study generative`, {study['cores']} cores, seed 0."])


def videos_sentence(study: dict[str, Any]) -> str:
    """Where colors and masks go."""
    halves = [study["experiments"][key]["mean"] for key in ("V1", "V2")]
    wrong = {way: statistics.mean(half[way] for half in halves) for way in halves[0]}
    masks = study["experiments"]["V3"]["carried"]
    return (
        "Colors propagated over ten frames of real "
        f"videos are off by {wrong['learned']:.2f} (a*, b*), "
        f"copied ones by {wrong['copied']:.2f}, carried by plain gray patches "
        f"{wrong['gray patches']:.2f}; masks of sprites overlap the true ones by "
        f"{masks['learned']['front']:.2f}, {masks['copied']['front']:.2f} and "
        f"{masks['gray patches']['front']:.2f}: `unlabeled study video`."
    )


def sound_table(study: dict[str, Any]) -> str:
    """What is read from recordings, and tunes found on other instruments."""
    done = study["experiments"]
    found, tunes, chance = done["S1"]["read"], done["S3"]["retrieval"], done["S3"]["chance"]
    titles = ["digit", "of a speaker left out", "speaker", "speaker, 5 recordings each"]
    lines = [f"| | {' | '.join(titles)} |", "|---|---:|---:|---:|---:|"]
    for name, read in found.items():
        shares = (
            spread([100 * v for v in read[k]], 1) for k in ("digit", "unseen", "speaker", "few")
        )
        lines.append(f"| {name} | {' | '.join(shares)} |")
    learned, *others = tunes.items()
    told = f"learned {learned[1]['recall@1']:.1%}, "
    told += ", ".join(f"{name} {f['recall@1']:.1%}" for name, f in others)
    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled study sound --seeds {study['seeds']}`, {study['cores']} cores: linear "
            f"decoders on {done['S1']['test_recordings']} official test takes of spoken digits, %. "
            f"The same tune on another instrument is nearest: {told}, by chance {chance:.1%}.",
        ]
    )


def local_table(study: dict[str, Any], motion: dict[str, Any]) -> str:
    """Every stage of every way to learn, what memory is saved, what two targets of video leave."""
    done, read = study["experiments"], motion["experiments"]["M1"]["read"]
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
    praised = done["L3"]["read_out"]["CLAPP"]

    def both(factor: str) -> str:
        told = (f"{title} {spread([100 * v for v in f[factor]], 1)} %" for title, f in read.items())
        return ", ".join(told)

    return "\n".join(
        [
            *lines,
            "",
            f"`unlabeled study local`, CIFAR-10 in gray, {study['cores']} cores, seed 0: a linear "
            "decoder with 10,000 labels at every stage. By stages a step keeps less memory: "
            f"{saved}. From praise alone, on CLAPP's features, {praised['reward']:.1%} are named, "
            f"with labels {praised['labels']:.1%}.",
            "",
            "Gliding sprites, two targets of prediction. Shape: "
            f"{both('shape')}; velocity: {both('velocity')}. `unlabeled study motion --seeds "
            f"{motion['seeds']}`.",
        ]
    )


def pairs_sentences(study: dict[str, Any]) -> str:
    """Images and captions, digits seen and heard."""
    emoji, senses = (study["experiments"][key] for key in ("J1", "J2"))

    def recalls(found: dict[str, float], k: int) -> str:
        there, back, chance = (100 * found[f"{way}@{k}"] for way in ("there", "back", "chance"))
        return f"{there:.1f} and {back:.1f} % (chance {chance:.1f})"

    return "\n".join(
        [
            f"- **Emoji and their names** (`clip`, {emoji['test']} of families never seen): among "
            f"the ten nearest {recalls(emoji['retrieval'], 10)}, nearest "
            f"{recalls(emoji['retrieval'], 1)}; groups named without a label "
            f"{emoji['zero_shot']:.1%}, the largest group {emoji['largest_group']:.1%}.",
            f"- **Digits seen and heard** ({senses['test']} of each, speakers never heard): the "
            f"nearest is of the same digit in {recalls(senses['retrieval'], 1)}.",
            "",
            f"`unlabeled study pairs`, {study['cores']} cores, seed 0.",
        ]
    )


def words_sentences(study: dict[str, Any], vectors: dict[str, Any], by_mean: dict[str, Any]) -> str:
    """What text alone teaches, one line each; counting, gensim and chance beside it."""
    found = study["experiments"]

    def beside(told: dict[str, Any]) -> str:
        def both(key: str, scale: float, digits: int) -> str:
            runs = ([scale * run[key] for run in told["runs"][side]] for side in told["summary"])
            return " to ".join(spread(values, digits) for values in runs)

        return (
            f"WordSim-353 ρ {both('wordsim353', 1, 3)}, SimLex-999 {both('simlex999', 1, 3)}, "
            f"analogies {both('analogies', 100, 1)} %, "
            f"{told['speed_ratio']:.1f}× its words a second"
        )

    said, sentences, books = found["W2"], found["W3"], found["W4"]["passages"]
    counting, hidden = said["counted"], said["masked words"]
    networks = {t: f["perplexity"] for t, f in said.items() if t.startswith(("next", "word"))}
    follows, order = sentences["next sentence"], sentences["order"]
    words, parts = (sentences["shuffled"][unit] for unit in ("words", "sentences"))
    near, masked = sentences["neighbors"], sentences["hidden"]
    kinds = ("next word", "masked words", "TF-IDF", "random")
    named = "; ".join(
        f"{kind} " + ", ".join(f"{100 * share:.1f}" for share, _ in books[kind].values())
        for kind in kinds
    )
    halves = found["W5"]["halves"]
    return "\n".join(
        [
            f"- **Word vectors** (`word2vec`, {len(vectors['runs']['ours'])} seeds; ours to "
            f"gensim's, the same {vectors['tokens'] / 1e6:.1f} million words, settings and number "
            f"of threads): skip-gram {beside(vectors)}; CBOW {beside(by_mean)}; "
            "`python bench/word2vec.py`.",
            f"- **The next word**, perplexity: {each(networks, 1)}; counting single words "
            f"{counting['unigram']:.0f}, three {counting['trigram']:.1f}. Hidden words are guessed "
            f"in {hidden['accuracy']:.1%} (the commonest {counting['commonest']:.1%}), perplexity "
            f"{hidden['perplexity']:.1f}.",
            "- **Sentences**: two halves belong together or not, right in "
            f"{follows['all']:.1%} (of articles never seen {follows['documents']:.1%}, among each "
            f"other {follows['among']:.1%}); which came first {order['all']:.1%} (of such articles "
            f"{order['documents']:.1%}); guessing gives 50 %. "
            f"Shuffled words come back with Kendall's τ {words['tau']:.2f} (wholly right "
            f"{words['exact']:.1%}), sentences {parts['tau']:.2f} ({parts['exact']:.1%}). The next "
            f"sentence is found in {near['first']:.1%} (chance {near['chance']:.1%}), a hidden one "
            f"in {masked['first']:.1%} ({masked['chance']:.1%}).",
            f"- **Which book a passage is from**, %, by {', '.join(books['random'])} labeled "
            f"passages of each: {named}.",
            "- **The other half of a text**, nearest of 100: "
            + ", ".join(f"{title} {f['there@1']:.1%}" for title, f in halves.items())
            + f" (chance {next(iter(halves.values()))['chance@1']:.1%}).",
            "",
            f"`unlabeled study words`, {study['cores']} cores, seed 0.",
        ]
    )


def each(values: dict[str, float], digits: int) -> str:
    """Names and figures in a row."""
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items())


def made_sentence(found: dict[str, Any]) -> str:
    """How near to real images, and the rarest class."""
    made = found["made"]
    near = each({name: f["frechet"] for name, f in made.items()}, 2)
    rarest = each({name: 100 * f["least_class"] for name, f in made.items()}, 1)
    return (
        f"- **Clothes**, {found['samples']:,} of each, judged by a classifier of real ones: "
        f"Fréchet distance {near}; rarest class, %: {rarest}; diffusion makes the class asked "
        f"for in {made['diffusion']['asked_right']:.1%}."
    )


def captions_sentence(found: dict[str, Any]) -> str:
    """Whether words are heeded."""
    return (
        f"- **Captions** such as “a large heart, top left”: shape right in {found['shape']:.1%}, "
        f"quadrant in {found['place']:.1%}, both in {found['both']:.1%}."
    )


def clips_sentence(found: dict[str, Any]) -> str:
    """Whether clips move as asked."""
    x, y = (found["correlation"][axis] for axis in "xy")
    return f"- **Clips**: velocity asked for and made correlate by {x:.2f} across, {y:.2f} down."


def machines_sentence(found: dict[str, Any]) -> str:
    """Bounds of machines of binary units."""
    exact, annealed = (found["log_partition"][key] for key in ("exact", "annealed"))
    return (
        f"- **Machines of binary units**: log Z estimated {annealed:.2f}, summed {exact:.2f}; "
        f"bound, nats a digit: {each(found['bounds'], 1)}."
    )


def by_size(value: float) -> float:
    """Sorts the largest first, what is withdrawn last."""
    return math.inf if math.isnan(value) else -value


def spread(values: list[float], digits: int) -> str:
    """Mean ± standard deviation, where there are several."""
    if any(isinstance(value, Withdrawn) for value in values):
        return "withdrawn"
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def bench_sentence(
    steps: list[dict[str, Any]],
    losses: dict[str, Any],
    views: dict[str, Any],
    judged: dict[str, Any],
) -> str:
    """A SimCLR step, encoder by encoder, and the rest in a sentence."""
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
            "A SimCLR training step against lightly's way (its transforms and loss; same images, "
            "encoder, batch and threads; alternated in one run, medians; of lightly's variants the "
            f"fastest), `make bench` on {steps[0]['cores']} cores:",
            "",
            "| encoder | batch | bf16 | fp32 | default to default | theirs with 2 workers |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
            "",
            f"NT-Xent of 8,192 pairs with its gradient takes {theirs['over_ours']:.1f} times less "
            f"time than lightly's and {smaller:.0f} times less memory. On one thread an image is "
            f"turned, shifted and scaled {turned['compiled_over_it']:.1f} times as fast as by "
            f"torchvision ({turned['plain_over_it']:.1f} times without a compiler), cropped and "
            f"colored {colored['compiled_over_it']:.1f} times, blurred as well "
            f"{blurred['compiled_over_it']:.1f} times. k-NN takes {judged['knn']['ratio']:.1f} "
            "times less than scikit-learn's brute force, similarities of all pairs "
            f"{judged['rsa']['ratio']:.1f} times less than rsatoolbox. All of it: "
            "[docs/bench.md](docs/bench.md).",
        ]
    )


def survival_sentence(kills: dict[str, Any], folder: dict[str, Any], page: dict[str, Any]) -> str:
    """What was killed, what was listed, how quick the page is."""
    runs = [kills["dsprites"], kills["folder"]]
    same, trials = (sum(r[key] for r in runs) for key in ("identical", "trials"))
    whole = sum(case["identical"] for case in kills["damage"])
    decoding = folder["decoding"]
    memory = max(step["largest_process_so_far_mb"] for step in folder["steps"])
    return (
        f"`python bench/survival.py`: {trials} runs ({runs[0]['trials']} of LeNet on dSprites, "
        f"{runs[1]['trials']} on a folder with 2 workers) were killed at "
        f"{sum(r['kills'] for r in runs)} random moments and resumed; {same} ended in the same "
        f"bytes, as did {whole} of {len(kills['damage'])} with a damaged checkpoint. `python "
        f"bench/folder.py`: of {folder['images']:,} mixed images, 100 of them damaged in ten "
        f"ways, {folder['listed_as_left_out']} were listed; training, embedding and exploring "
        f"took at most {memory:,} MB in any process; {decoding['samples_per_second']:,} images "
        f"a second were decoded, {decoding['ratio']:.1f}× a plain DataLoader with Pillow and as "
        f"many workers. `python bench/explore.py`: the page of {page['images']:,} images has "
        f"{page['page_megabytes']:.1f} MB, paints after {page['first_paint_ms']:.0f} ms and "
        f"answers a click in {page['click_to_paint_ms']['median']:.0f} ms ({kills['cores']} cores)."
    )


class Withdrawn(float):
    """A figure that depended on a fault: it stays in its file and is not shown."""

    def __new__(cls, _: float = math.nan) -> Withdrawn:
        return super().__new__(cls, math.nan)

    def __format__(self, _: str) -> str:
        return "withdrawn"

    def __mul__(self, _: float) -> Withdrawn:
        return self

    __rmul__ = __truediv__ = __mul__


def without(value: Any, path: list[str]) -> Any:
    """`value` with each number at or below `path` withdrawn; `*` is any key.

    Raises:
        SystemExit: nothing is at `path`.
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
    """What a command wrote, less what its key `withdrawn` names: {"path/to/figures": reason}."""
    content = json.loads((ROOT / "results" / file).read_text())
    for path in content.get("withdrawn", {}):
        content = without(content, path.split("/"))
    return content


def filled(text: str) -> str:
    """The README with its marked blocks written anew."""
    beyond = ("lectures.json", "simclr_dsprites_real.json", "renderer.json")
    survived = ("survival.json", "folder.json", "explore_page.json")
    vectors = ("words.json", "word2vec.json", "word2vec_cbow.json")
    family = ("semi_supervised", "verification", "transfer", "collapse", "metric")
    pairs = [f"{name} {side}" for name in ("simclr", "byol") for side in SIDES]
    for name, block in (
        ("survival", survival_sentence(*map(result, survived))),
        ("demo", demo_table(result("demo.json"))),
        ("beyond", beyond_sentence(*map(result, beyond))),
        ("lectures", lecture_table(result("lectures.json"))),
        ("family", family_table(result("methods.json"))),
        (
            "further",
            family_sentences(
                *(result(f"{study}.json") for study in family),
                {pair: result(f"cifar10_{pair.replace(' ', '_')}.json") for pair in pairs},
            ),
        ),
        ("pretext", pretext_table(result("pretext.json"))),
        ("videos", videos_sentence(result("video.json"))),
        ("generative", generative_sentences(result("generative.json"))),
        ("sound", sound_table(result("sound.json"))),
        ("pairs", pairs_sentences(result("pairs.json"))),
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
        text = re.sub(
            rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)",
            lambda found, block=block: f"{found[1]}{block}\n{found[2]}",  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
