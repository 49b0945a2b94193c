"""Metrics, their intervals, and the registry that tables, pages and JSON loop over."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.core import Batch
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.targets import Classes, MultiLabel, Numbers
from unlabeled.evaluation import intervals, metrics, rsa
from unlabeled.evaluation.evaluate import compute, measure, references
from unlabeled.evaluation.factors import PENALTY, ridge
from unlabeled.evaluation.metric import MOST_FREQUENT, Metric, Subject, Value, accuracy
from unlabeled.evaluation.metrics.linear_probe import balanced_accuracy
from unlabeled.evaluation.metrics.mean_average_precision import average_precision
from unlabeled.evaluation.metrics.replaced_tokens import _area
from unlabeled.evaluation.metrics.zero_shot import ZeroShot
from unlabeled.evaluation.ngram import KneserNey
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.verification import pairs
from unlabeled.report.page import write_report
from unlabeled.report.table import print_table

RNG = np.random.default_rng(0)
QUICK = {"epochs": 1, "batch_size": 16, "progress": False, "logger": "none", "precision": "fp32"}


class Identity(torch.nn.Module):
    dim = 8

    def forward(self, x):
        return x.flatten(1)


def blobs(n=120, classes=3, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    x = np.random.default_rng(9).normal(size=(classes, 8))[y] + spread * rng.normal(size=(n, 8))
    return x.astype(np.float32), y


def subject(targets=None, **factors):
    """Features that are the data itself; half to train on, half to test on."""
    x, y = blobs()
    factors = {"label": y} | factors
    parts = [
        Samples(
            x[rows][:, None, None],
            {name: values[rows] for name, values in factors.items()},
            targets=targets or {},
        )
        for rows in (slice(0, 60), slice(60, 120))
    ]
    return Subject("mine", Splits("blobs", *parts, target="label"), Identity())


# ---- intervals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (7, 20), (986, 1000), (1, 100_000)])
def test_the_wilson_interval_is_scipys(hits, n):
    result = intervals.wilson(hits, n)
    known = binomtest(hits, n).proportion_ci(method="wilson")
    assert result == pytest.approx((known.low, known.high), abs=1e-9)
    assert accuracy(np.arange(n) < hits) == Value(hits / n, *result)


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one():
    values = RNG.normal(size=2000)
    low, high = intervals.bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.006)
    assert intervals.bootstrap_mean(values) == (low, high)


@pytest.mark.parametrize("kind", ["gap", "centered", "auc"])
def test_the_jackknife_is_the_bootstrap_over_samples(kind):
    """Fails where pairs are taken as independent, which makes the interval far too narrow."""
    z, y = blobs(200, spread=2.0)
    if kind == "auc":
        compared = pairs(z, y)
        low, high = compared.auc_interval()
    else:
        low, high = rsa.gap(z, y, "centered" if kind == "centered" else "cosine").interval
    near = rsa.similarity_matrix(z, "cosine" if kind == "gap" else "centered").astype(float)
    i, j = np.triu_indices(len(z), 1)
    same, near = y[i] == y[j], near[i, j]
    values, rng = [], np.random.default_rng(1)
    for _ in range(300):
        times = rng.multinomial(len(z), np.full(len(z), 1 / len(z)))
        weight = times[i] * times[j]
        if kind == "auc":
            values.append(roc_auc_score(same, near, sample_weight=weight))
        else:
            means = (np.average(near[part], weights=weight[part]) for part in (same, ~same))
            values.append(next(means) - next(means))
    assert (high - low) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.15)


# ---- metrics against scikit-learn ----------------------------------------------------------------


def test_balanced_accuracy_is_scikit_learns():
    y = RNG.choice(4, 300, p=[0.7, 0.2, 0.05, 0.05])
    guess = np.where(RNG.random(300) < 0.6, y, RNG.integers(4, size=300))
    value = balanced_accuracy(guess == y, y)
    assert value.value == pytest.approx(balanced_accuracy_score(y, guess))
    scores = []
    for _ in range(500):
        rows = RNG.integers(300, size=300)
        recalls = [(guess == y)[rows][y[rows] == c].mean() for c in np.unique(y[rows])]
        scores.append(np.mean(recalls))
    assert (value.low, value.high) == pytest.approx(np.percentile(scores, [2.5, 97.5]), abs=0.03)


def test_average_precision_is_scikit_learns():
    y, scores = RNG.integers(0, 2, 80), RNG.normal(size=80).round(1)  # with ties
    times = RNG.integers(0, 3, (4, 80))
    known = [average_precision_score(y, scores, sample_weight=t) for t in times]
    assert average_precision(scores, y, times) == pytest.approx(known)


def test_each_metric_of_labeled_features():
    mine = subject()
    mine.penalty = 1.0
    values = compute(mine)
    probe = linear_probe(mine.train, mine.y, mine.test, mine.y_test)
    assert values["linear_probe"].value == pytest.approx(probe.test)
    assert values["similarity_gap"].value == pytest.approx(rsa.gap(mine.test, mine.y_test).gap)
    assert values["auroc"].value == pytest.approx(pairs(mine.test, mine.y_test).auc)
    assert values["dim"] == Value(8)
    assert values["rankme"].low is None
    for key in ("linear_probe", "knn", "balanced_accuracy", "auroc", "similarity_gap"):
        assert values[key].low < values[key].value < values[key].high
    assert not {"r2", "mean_average_precision", "perplexity", "recall_at_1"} & set(values)


def test_r2_of_every_numeric_target():
    x, _ = blobs()
    numbers = {"age": x[:, 0].astype(float), "noise": RNG.normal(size=120)}
    mine = subject({name: Numbers() for name in numbers}, **numbers)
    mine.penalty = PENALTY
    values = compute(mine)
    assert values["r2_age"].value > 0.9
    assert values["r2_age"].low < values["r2_age"].value < values["r2_age"].high
    assert values["r2"].value == pytest.approx(
        (values["r2_age"].value + values["r2_noise"].value) / 2
    )
    guess = ridge(mine.train, numbers["noise"][:60, None], mine.test)[:, 0]
    assert values["r2_noise"].value == pytest.approx(r2_score(numbers["noise"][60:], guess))
    assert values["r2"].low < values["r2"].value < values["r2"].high
    error = mean_absolute_error(numbers["noise"][60:], guess)
    assert values["mae_noise"].value == pytest.approx(error)
    assert values["mae_noise"].low < error < values["mae_noise"].high
    mean = references(mine)["mean"]
    assert mean["mae_noise"].value == pytest.approx(
        np.abs(numbers["noise"][60:] - numbers["noise"][:60].mean()).mean()
    )
    assert -0.2 < mean["r2_noise"].value < 0.01


def test_errors_of_what_goes_round_go_the_shorter_way():
    angle = np.tile(np.array([0.0, 359.0, 90.0, 180.0, 270.0, 1.0]), 20)
    x = np.stack([np.sin(np.radians(angle)), np.cos(np.radians(angle))], 1).astype(np.float32)
    samples = Samples(x[:, None, None], {"angle": angle}, targets={"angle": Numbers(period=360.0)})
    rows = np.arange(120)
    splits = Splits("angles", samples.take(rows[:60]), samples.take(rows[60:]))
    values = compute(Subject("mine", splits, Identity()))
    assert values["mae_angle"].value < 1.5
    # The mean direction of the training part is about 0°, from which 180° is furthest.
    assert values["r2_angle"].value > 0.99


def test_mean_average_precision_of_several_labels():
    x, _ = blobs()
    tags = (x[:, :3] + 0.5 * RNG.normal(size=(120, 3)) > 0.5).astype(np.int64)
    mine = subject({"tags": MultiLabel(("a", "b", "c"))}, tags=tags)
    value = compute(mine)["mean_average_precision"]
    assert tags[60:].mean() < value.value < 1
    assert value.low < value.value < value.high


@pytest.mark.filterwarnings("error")
def test_labels_that_few_or_no_test_samples_have_give_no_warning():
    """Catches numpy's "mean of empty slice" in draws and data without a positive."""
    x, _ = blobs()
    tags = (x[:, :3] + 0.5 * RNG.normal(size=(120, 3)) > 0.5).astype(np.int64)
    tags[60:] = 0
    targets = {"tags": MultiLabel(("a", "b", "c"))}
    none = subject(targets, tags=tags)
    assert compute(none)["mean_average_precision"].value is None
    assert references(none)["chance"]["mean_average_precision"].value is None
    tags[60, 0] = 1
    assert 0 < compute(subject(targets, tags=tags))["mean_average_precision"].value <= 1


@pytest.mark.filterwarnings("error")
def test_a_number_that_no_test_sample_has_is_undefined():
    """Catches numpy's "mean of empty slice"."""
    x, _ = blobs()
    age = np.where(np.arange(120) < 60, x[:, 0].astype(float), np.nan)
    mine = subject({"age": Numbers()}, age=age)
    assert compute(mine)["r2_age"].value is compute(mine)["mae_age"].value is None
    assert references(mine)["mean"]["mae_age"].value is None


def test_hits_and_likelihoods_have_intervals_over_groups():
    """Catches samples of a group that count as independent, and groups in another order."""
    from unlabeled.evaluation.language import random_rows
    from unlabeled.evaluation.metrics import language_modeling, recall, replaced_tokens

    mine = subject()
    test = mine.splits.test
    test.groups = np.repeat(np.array(list("abcdefghij")), 6)
    is_hit = np.isin(test.groups, list("acegi")).astype(float)  # of a group all or none
    rows = random_rows(test)
    mine._shared[recall.recalls] = {"recall_at_1": (is_hit[rows], 0.1)}
    words = np.ones(60)
    mine._shared[language_modeling.predicted] = np.stack([is_hit[rows], words, is_hit[rows]], 1)
    mine._shared[language_modeling.counts] = {"unigram": np.stack([is_hit, words, is_hit], 1)}
    columns = np.arange(120) // 2, words.repeat(2), np.arange(120) % 2, np.ones(120)
    mine._shared[replaced_tokens.judged] = np.stack(columns, 1)
    mine._shared[replaced_tokens.judged][:, 3] += (is_hit[rows].repeat(2) - 0.5) * columns[2]
    once = accuracy(np.arange(10) % 2 == 0)  # ten groups say as much as ten answers
    modeling = language_modeling.Perplexity(), language_modeling.MaskedAccuracy()
    for value in (
        recall.Recall().compute(mine)["recall_at_1"],
        modeling[1].compute(mine),
        modeling[1].references(mine)["unigram"],
    ):
        assert (value.low, value.high) == pytest.approx((once.low, once.high), abs=0.04)
    for value in (modeling[0].compute(mine), modeling[0].references(mine)["unigram"]):
        assert math.log(value.low) < 0.25 < 0.75 < math.log(value.high)
    grouped = replaced_tokens.ReplacedAUROC().compute(mine)
    test.groups = None
    alone = replaced_tokens.ReplacedAUROC().compute(mine)
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


# ---- the registry --------------------------------------------------------------------------------


def test_keys_belong_to_the_longest_metric():
    """Fails where `similarity_gap` takes the key of the centered one."""
    assert metrics.metric_of("similarity_gap_centered").title == "Mean-centered gap"
    assert metrics.metric_of("recall_at_5_forward").title_of("recall_at_5_forward") == (
        "Recall@5, forward"
    )
    assert metrics.metric_of("nobody").title == "nobody"


def test_how_values_are_written():
    probe, gap = metrics.metric_of("linear_probe"), metrics.metric_of("similarity_gap")
    assert probe.format(Value(0.986, 0.982, 0.9899)) == "98.6 % (98.2–99.0)"
    assert gap.format(Value(-0.01, -0.02, 0.01)) == "−0.010 (−0.020 to 0.010)"
    assert gap.format(Value(-0.0001)) == "0.000"
    assert metrics.metric_of("dim").format(Value(4096)) == "4,096"
    assert probe.format(Value(None)) == "–"


MINE = '''
"""Share of features above 0."""
from unlabeled.evaluation.metric import Metric, Value


class Sparsity(Metric):
    """Share of features that are 0 in the test samples."""

    key = "sparsity"
    title = "Sparsity of features"
    percent = True

    def applies(self, subject):
        return True

    def compute(self, subject):
        return Value(float((subject.shown == 0).mean()), 0.25, 0.75)
'''


def test_a_metric_is_one_file(trained, sprites, tmp_path, monkeypatch, capsys):
    """Fails where a table, the page or the JSON has a list of its own."""
    (tmp_path / "sparsity.py").write_text(MINE)
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    evaluation = measure(trained, sprites)
    result = evaluation.to_json()
    assert set(result["metrics"]["sparsity"]) == {"value", "low", "high"}
    assert "sparsity" in result["baselines"]["raw"]
    page = write_report(trained, evaluation).read_text()
    assert "Sparsity of features" in page
    assert "Share of features that are 0" in page
    print_table(result)
    assert "Sparsity" in capsys.readouterr().out


def test_every_metric_says_what_it_is():
    result = metrics.find_metrics()
    assert len({metric.key for metric in result}) == len(result) >= 15
    for metric in result:
        assert metric.title
        assert type(metric).__doc__ != Metric.__doc__


# ---- runs of other kinds -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for part, paragraphs, seed in (("train", 80, 0), ("test", 30, 1)):
        rng = np.random.default_rng(seed)
        animals, verbs = ("cat", "dog", "fox", "hen"), ("sees", "hears", "likes")

        def sentence(rng=rng, animals=animals, verbs=verbs):
            first, second = rng.choice(animals, 2)
            return f"The old {first} often {rng.choice(verbs)} the young {second}."

        lines = [" ".join(sentence() for _ in range(4)) for _ in range(paragraphs)]
        (folder / f"a_{part}.txt").write_text("\n\n".join(lines))
    return folder


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
@pytest.mark.parametrize(
    ("method", "data", "keys", "baselines"),
    [
        ("masked_lm", "text", {"perplexity", "masked_accuracy"}, {"unigram"}),
        ("causal_lm", "text", {"perplexity"}, {"unigram"}),
        ("bidirectional_lm", "text", {"perplexity"}, {"unigram"}),
        ("next_sentence", "sentences", {"sentence_pair_accuracy"}, {"chance"}),
        ("sentence_order", "sentences", {"sentence_pair_accuracy"}, {"chance"}),
        ("word_order", "sentences", {"word_order_tau", "word_order_exact"}, {"chance"}),
        ("skip_thoughts", "sentences", {"recall_at_1"}, {"chance"}),
        ("masked_sentences", "sentences", {"recall_at_1", "recall_at_10"}, {"chance"}),
        ("simcse", "sentences", {"recall_at_1", "recall_at_10"}, {"chance"}),
        ("electra", "text", {"replaced_auroc", "replaced_accuracy"}, {"unigram", MOST_FREQUENT}),
    ],
)
def test_runs_of_text(method, data, keys, baselines, texts, tmp_path):
    args = {"width": 32, "layers": 1}
    run = ul.train(method, f"{data}:{texts}", out=tmp_path / "run", encoder_args=args, **QUICK)
    result = ul.evaluate(ul.load(run.path))  # heads come from the checkpoint
    assert result["modality"] == "text"
    assert keys <= set(result["metrics"])
    assert baselines | {"tfidf", "random"} <= set(result["baselines"])
    for key in keys:
        value = result["metrics"][key]
        assert value["low"] <= value["value"] <= value["high"]
        assert any(key in result["baselines"][name] for name in baselines)
        if key.startswith("recall_at"):
            assert key in result["baselines"]["tfidf"]
    if "perplexity" in keys:
        unigram = result["baselines"]["unigram"]["perplexity"]["value"]
        n_gram = next(name for name in result["baselines"] if name.endswith("-gram"))
        assert result["baselines"][n_gram]["perplexity"]["value"] < unigram
    assert json.loads((run.path / "evaluation.json").read_text())["metrics"] == result["metrics"]


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_replaced_words_equal_a_loop(texts, tmp_path):
    """Catches words that were drawn right but count as replaced, ends of sentences and padding in
    the mean, a rank by frequent words, and the true word's frequency in place of the drawn one's.
    """
    from unlabeled.data.readers import text

    args = {"width": 32, "layers": 1}
    options = QUICK | {"epochs": 4, "out": tmp_path / "run", "encoder_args": args}
    run = ul.train("electra", f"text:{texts}", **options, mask_ratio=0.4)
    result = ul.evaluate(ul.load(run.path))
    splits, method = text.load(str(texts)), run.method.cpu().eval()
    seen = Counter(int(token) for token in splits.train.x.ravel() if token)
    order = np.random.default_rng(0).permutation(len(splits.test))
    torch.manual_seed(0)
    ids, masked, draws = method.views(
        Batch(torch.from_numpy(splits.test.x[order]).long(), torch.arange(len(order)))
    )
    with torch.no_grad():
        filled = method.corrupt((ids, masked, draws))[1]
        logits = method.scores(filled)
    replaced, scores, rarity, drawn_right = [], [], [], 0
    for true, now, hidden, logit in zip(ids, filled, masked, logits, strict=True):
        for i in range(len(true)):
            if true[i] > 4:  # neither padding nor an end
                replaced.append(bool(now[i] != true[i]))
                scores.append(logit[i].item())
                rarity.append(-seen[int(now[i])])
                drawn_right += bool(hidden[i]) and not replaced[-1]
    assert drawn_right > 0
    assert (ids == 3).any()
    metrics, baselines = result["metrics"], result["baselines"]
    expected = roc_auc_score(replaced, scores)
    assert metrics["replaced_auroc"]["value"] == pytest.approx(expected)
    right = np.mean([(score > 0) == true for score, true in zip(scores, replaced, strict=True)])
    assert metrics["replaced_accuracy"]["value"] == pytest.approx(right)
    frequent = baselines["unigram"]["replaced_auroc"]["value"]
    assert frequent == pytest.approx(roc_auc_score(replaced, rarity))
    original = baselines[MOST_FREQUENT]["replaced_accuracy"]["value"]
    assert original == pytest.approx(1 - np.mean(replaced))


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_electra_tells_replaced_words_better_than_their_frequency(tmp_path):
    """Catches a discriminator that is not trained, not restored, or judged with its sign flipped.

    A paragraph has words of one of two vocabularies, which its generator of a single channel, whose
    LayerNorm leaves no context, cannot tell.
    """
    for part, paragraphs, seed in (("train", 320, 0), ("test", 60, 1)):
        rng = np.random.default_rng(seed)
        halves = [list("abcdef"), list("uvwxyz")]
        lines = [" ".join(rng.choice(halves[rng.integers(2)], 63)) for _ in range(paragraphs)]
        (tmp_path / f"a_{part}.txt").write_text("\n\n".join(lines))
    args = {"width": 32, "layers": 2}
    options = QUICK | {"epochs": 12, "lr": 2e-3, "out": tmp_path / "run", "encoder_args": args}
    run = ul.train("electra", f"text:{tmp_path}", **options, generator_ratio=1 / 32)
    result = ul.evaluate(ul.load(run.path))
    value, frequency = (
        row["replaced_auroc"] for row in (result["metrics"], result["baselines"]["unigram"])
    )
    assert frequency["high"] < 0.65
    assert value["low"] > 0.7
    accuracy, never = (
        row["replaced_accuracy"] for row in (result["metrics"], result["baselines"][MOST_FREQUENT])
    )
    assert accuracy["value"] > never["value"]


def test_replaced_words_need_some_of_both():
    """Catches a division by 0 where a generator draws every word right."""
    text, score = np.zeros(4), np.arange(4.0)
    assert _area(text, np.zeros(4, bool), score).value is None
    area = _area(text, np.array([False, True, False, True]), score)
    assert area.value == pytest.approx(0.75)


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_the_unigram_baseline_counts_words(texts):
    from unlabeled.data.readers import text
    from unlabeled.evaluation.language import counted, counted_tokens

    splits = text.load(str(texts), length=16)
    parts = splits.train, splits.test
    train, test = ([int(token) for token in part.x.ravel() if token > 4] for part in parts)
    seen, vocabulary = Counter(train), splits.modality.vocabulary
    nats = [-math.log((seen[t] + 1) / (len(train) + vocabulary)) for t in test]
    sums = counted_tokens(splits.train, splits.test, vocabulary)["unigram"].sum(0)
    most = seen.most_common(1)[0][0]
    assert sums == pytest.approx([sum(nats), len(test), test.count(most)])
    assert counted(splits.train, splits.test, vocabulary)["unigram"] == pytest.approx(
        math.exp(np.mean(nats))
    )


def test_surprises_of_characters_average_to_bits():
    model = KneserNey("the cat sees the dog", 3)
    bits = model.surprises("the dog sees")
    assert bits.mean() == pytest.approx(model.bits("the dog sees"))
    remaining = np.array([sign != " " for sign in "the dog sees"])
    assert bits[remaining].mean() == pytest.approx(model.bits("the dog sees", " "))


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_runs_of_pairs(tmp_path, capsys):
    folder = tmp_path / "pairs"
    folder.mkdir()
    colors = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "gray": (99, 99, 99)}
    for i in range(60):
        name, color = list(colors.items())[i % 4]
        Image.new("RGB", (16, 16), color).save(folder / f"{i:02}.png")
        (folder / f"{i:02}.txt").write_text(f"a {name} square, number {i}")
    options = QUICK | {"text_layers": 1}
    run = ul.train("clip", f"pairs:{folder}", out=tmp_path / "run", **options)
    assert main(["evaluate", str(run.path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["modality"] == "pairs"
    for k in (1, 5, 10):
        ways = (f"recall_at_{k}_{way}" for way in ("forward", "backward"))
        both = [result["metrics"][key]["value"] for key in ways]
        assert result["metrics"][f"recall_at_{k}"]["value"] == pytest.approx(np.mean(both))
        chance = result["baselines"]["chance"][f"recall_at_{k}"]["value"]
        assert chance >= min(1, k / result["n_test"]) - 1e-9
    assert main(["evaluate", str(run.path)]) == 0
    assert "Recall@1, forward" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_images_are_classified_by_the_names_of_their_classes(tmp_path):
    """Catches: classes in another order, images and texts in two spaces."""
    names = ("gray", "red", "blue")
    colors = {"red": (255, 0, 0), "blue": (0, 0, 255), "gray": (99, 99, 99)}
    for i in range(90):
        name = names[i % 3]
        Image.new("RGB", (16, 16), colors[name]).save(tmp_path / f"{i:02}.png")
        (tmp_path / f"{i:02}.txt").write_text(f"a {name} square")
    options = QUICK | {"text_layers": 1, "epochs": 30, "lr": 3e-3}
    run = ul.train("clip", f"pairs:{tmp_path}", out=tmp_path / "run", **options)
    splits = ul.open_data(f"pairs:{tmp_path}")
    for part in (splits.train, splits.test):
        part.factors["color"] = np.array([int(n[-6:-4]) % 3 for n in part.names])
        part.targets["color"] = Classes(names)
    splits.target = "color"
    mine = Subject("clip", splits, run.encoder, run)
    assert ZeroShot().applies(mine)
    assert ZeroShot().compute(mine).value == 1
    alone = ZeroShot().compute(mine).low
    splits.test.groups = np.where(np.arange(len(splits.test)) % 2, "a", "b")
    assert ZeroShot().compute(Subject("clip", splits, run.encoder, run)).low < alone
    splits.test.groups = None
    splits.test.targets["color"] = splits.train.targets["color"] = Classes(names[::-1])
    assert ZeroShot().compute(Subject("clip", splits, run.encoder, run)).value < 0.6


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
@pytest.mark.parametrize(
    ("method", "keys", "baseline"),
    [
        ("vae", {"elbo", "frechet_distance"}, "independent_pixels"),
        ("autoregressive", {"bits", "frechet_distance"}, "independent_pixels"),
        ("helmholtz", {"elbo", "frechet_distance"}, "independent_pixels"),
        ("gan", {"frechet_distance"}, "training_images"),
    ],
)
def test_generative_runs(method, keys, baseline, tmp_path, monkeypatch):
    from unlabeled.evaluation.metrics import generation

    monkeypatch.setattr(generation, "SAMPLES", 40)
    x = np.zeros((120, 8, 8), np.uint8)
    x[np.arange(120), RNG.integers(0, 8, 120)] = 255
    options = {"encoder": "lstm"} if method == "autoregressive" else {}
    run = ul.train(method, x, test=x[:40], out=tmp_path / "run", **QUICK | options)
    result = ul.evaluate(run)
    assert keys <= set(result["metrics"])
    assert keys & set(result["baselines"][baseline])
    frechet = result["metrics"]["frechet_distance"]["value"]
    assert frechet > result["baselines"]["training_images"]["frechet_distance"]["value"]


@pytest.mark.filterwarnings("ignore:60 images:unlabeled.errors.Notice")
def test_a_run_without_heads_says_so(tmp_path):
    """Fails where a checkpoint that is gone ends the evaluation, or is passed over in silence."""
    x = RNG.integers(0, 255, (60, 8, 8)).astype(np.uint8)
    run = ul.train("vae", x, test=x[:20], out=tmp_path / "run", **QUICK)
    (tmp_path / "run" / "last.ckpt").unlink()
    with pytest.warns(ul.errors.Notice, match="has no checkpoint"):
        result = ul.evaluate(ul.load(run.path), x, test=x[:20])
    assert set(result["metrics"]) == {"rankme", "dim"}


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_word_vectors(tmp_path, capsys):
    from unlabeled.runs.word_vectors import Words

    words = [f"{kind}{i}" for kind in ("a", "b", "c") for i in range(6)]
    vectors = np.concatenate([np.eye(6), np.eye(6) + 1, RNG.normal(size=(6, 6))])
    folder = tmp_path / "run"
    folder.mkdir()
    Words(words, vectors.astype(np.float32)).save(folder / "vectors.bin")
    rows = [(a, b, RNG.random()) for a, b in zip(words[::2], words[1::2], strict=True)]
    (tmp_path / "pairs.tsv").write_text("\n".join(f"{a}\t{b}\t{r}" for a, b, r in rows))
    (tmp_path / "questions.txt").write_text(": kinds\na0 b0 a1 b1\na2 b2 a3 b3\nx y z w\n")
    assert main(["evaluate", str(folder)]) == 2
    assert "--similarity FILE" in capsys.readouterr().err
    files = ["--similarity", str(tmp_path / "pairs.tsv")]
    files += ["--analogies", str(tmp_path / "questions.txt")]
    assert main(["evaluate", str(folder), "--json", *files]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"]["analogies"]["value"] == 1
    assert result["metrics"]["analogies"]["low"] == pytest.approx(intervals.wilson(2, 2)[0])
    value = result["metrics"]["similarity"]
    assert -1 < value["low"] < value["value"] < value["high"] < 1
    assert result["n_test"] == 9 + 2
    assert main(["evaluate", str(folder), *files, "--test", "other.txt"]) == 2
    assert "--test has no effect on word vectors; omit it" in capsys.readouterr().err
    assert main(["evaluate", str(folder), *files]) == 0
    assert "Word analogies" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:for the other metric:unlabeled.errors.Notice")
def test_a_file_without_analogies_is_refused(tmp_path):
    """Catches the traceback of a sum over no sections."""
    from unlabeled.evaluation.words import evaluate_words
    from unlabeled.runs.word_vectors import Words

    (tmp_path / "run").mkdir()
    Words(["a", "b"], np.eye(2, dtype=np.float32)).save(tmp_path / "run" / "vectors.bin")
    (tmp_path / "none.txt").write_text("# nothing yet\n")
    with pytest.raises(ul.errors.UserError, match="holds no analogies"):
        evaluate_words(tmp_path / "run", analogies=tmp_path / "none.txt")


def test_the_page_of_multi_label_data(trained, sprites, tmp_path):
    """Fails where a page or a metric takes several labels of a sample for one class."""
    x, y = sprites
    tags = np.stack([y % 2, y // 2], 1).astype(np.int64)
    parts = [
        Samples(
            x[rows].reshape(-1, 1, 64, 64),
            {"tags": tags[rows]},
            targets={"tags": MultiLabel(("a", "b"))},
        )
        for rows in (slice(0, 80), slice(80, 120))
    ]
    splits = Splits("tagged", *parts, target="tags")
    from unlabeled.evaluation.evaluate import measure_encoders

    evaluation = measure_encoders({"simclr": trained}, splits)
    assert set(evaluation.results["simclr"]) == {"mean_average_precision", "rankme", "dim"}
    assert "Mean average precision" in write_report(trained, evaluation).read_text()
