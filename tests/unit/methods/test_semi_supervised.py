"""Learning from few labels and many images: each loss is its paper's, and labels stay hidden."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unlabeled as ul
from unlabeled import parallel, registry
from unlabeled.augmentations import RandomAffine
from unlabeled.core import Batch
from unlabeled.data.sets import dsprites
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.fixmatch import FixMatch
from unlabeled.methods.pseudo_label import PseudoLabel
from unlabeled.methods.s4l import S4L
from unlabeled.methods.uda import UDA
from unlabeled.methods.vat import VAT, divergence
from unlabeled.objectives import labeled_cross_entropy
from unlabeled.studies.lab import Scale
from unlabeled.studies.run import run_study
from unlabeled.training.train import reopen

ALL = [FixMatch, PseudoLabel, S4L, UDA, VAT]
QUIET = {"progress": False, "logger": "none", "precision": "fp32"}
WEIGHTS = {"weight": 0.0, "entropy_weight": 0.0}
K = 3


class Pixels(nn.Module):
    """The pixels themselves: with a linear classifier, a network that is easily followed."""

    dim = 16

    def forward(self, x):
        return x.flatten(1)


def plain(cls, **options):
    """On pixels of 4×4, in double precision where the loss keeps it."""
    torch.manual_seed(0)
    method = cls(Pixels(), classes=K, **options)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(8)
    return method.double()


def deep(cls, **options):
    torch.manual_seed(0)
    return cls(build("small", 1, (16, 16), width=4), classes=K, **options)


def images(n=8, side=4, seed=1):
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed)).double()


Y = torch.tensor([2, -1, 0, -1, -1, 1, -1, -1])


def probabilities(method, x):
    """Row by row, (n, K)."""
    with torch.no_grad():
        return torch.stack([method.classifier(p.flatten()).softmax(0) for p in x])


def supervised_part(p, y):
    """The mean of −log p_y over the rows with a label."""
    return np.mean([-math.log(p[i, y[i]]) for i in range(len(y)) if y[i] >= 0])


def middle(p):
    """A threshold that half of the rows reach."""
    return p.amax(1).sort().values[3:5].mean().item()


def close(value):
    return pytest.approx(float(value), rel=1e-5)


def test_pseudo_label_is_the_formula():
    method, x = plain(PseudoLabel), images()
    p = probabilities(method, x)
    for threshold in (0.0, middle(p)):  # the paper's; one that drops rows, which still count
        sure = [-math.log(p[i].max()) * (p[i].max() >= threshold) for i in range(8) if Y[i] < 0]
        assert (0 in sure) == (threshold > 0)
        method.threshold = threshold
        for progress, alpha in ((0.0, 0.0), (0.1, 0.0), (0.35, 1.5), (0.6, 3.0), (1.0, 3.0)):
            method.progress = progress
            assert method.alpha() == pytest.approx(alpha)
            expected = supervised_part(p, Y) + alpha * np.mean(sure)
            assert method.loss((x, Y)).item() == close(expected)
    with pytest.raises(UserError, match="give a ramp_end above it"):
        plain(PseudoLabel, ramp_start=0.5, ramp_end=0.5)


def test_fixmatch_is_the_formula():
    """Below the threshold a row is 0, but it counts; rows with a label take part."""
    method, weak, strong = plain(FixMatch), images(), images(seed=2)
    p, q = probabilities(method, weak), probabilities(method, strong)
    method.threshold = middle(p)
    sure = [i for i in range(8) if p[i].max() >= method.threshold]
    assert len(sure) == 4
    assert any(Y[i] >= 0 for i in sure)
    unknown = sum(-math.log(q[i, p[i].argmax()]) for i in sure) / 8
    assert method.loss((weak, strong, Y)).item() == close(supervised_part(p, Y) + unknown)
    for threshold, none in ((0.0, False), (1.01, True)):
        method.threshold = threshold
        extra = method.loss((weak, strong, Y)).item() - supervised_part(p, Y)
        assert (abs(extra) < 1e-5) == none


def test_nothing_flows_through_the_target():
    """The weak view of an image without a label gets no gradient, the strong one does."""
    for cls in (FixMatch, UDA):
        method = plain(cls, threshold=0.0)
        weak, strong = images().requires_grad_(), images(seed=2).requires_grad_()
        method.loss((weak, strong, torch.full((8,), -1))).backward()
        assert not weak.grad.any()
        assert strong.grad.flatten(1).any(1).all()


def test_uda_is_the_formula():
    method, weak, strong = plain(UDA), images(), images(seed=2)
    p, q = probabilities(method, weak), probabilities(method, strong)
    method.threshold = middle(p)
    total = 0.0
    for i in range(8):
        sharp = p[i] ** (1 / 0.4)
        sharp = sharp / sharp.sum()
        if p[i].max() > method.threshold:
            total += float((sharp * (sharp / q[i]).log()).sum())
    assert method.loss((weak, strong, Y)).item() == close(supervised_part(p, Y) + total / 8)


@pytest.mark.parametrize(
    ("annealing", "risen"),
    [("linear", 0.4), ("log", 1 - math.exp(-2)), ("exp", math.exp(-3)), ("none", 1.0)],
)
def test_annealing_leaves_out_what_is_known(annealing, risen):
    """At 0.4 of training, rows surer than α (1 − 1/K) + 1/K neither give a loss nor count."""
    method = plain(UDA, annealing=annealing, weight=0.0)
    method.progress = 0.4
    ceiling = risen * (1 - 1 / K) + 1 / K
    right = torch.tensor([0.99, 0.55, 0.35, 0.2, 0.8, ceiling - 1e-3, min(1, ceiling + 1e-3), 0.1])
    y = torch.tensor([0, 0, 0, 0, -1, 0, 0, -1])
    logits = torch.stack([right, (1 - right) / 2, (1 - right) / 2], 1).log()
    remaining = [-math.log(right[i]) for i in range(8) if y[i] >= 0 and right[i] <= ceiling]
    assert method.supervised_loss(logits, y).item() == pytest.approx(np.mean(remaining), rel=1e-4)
    assert method.supervised_loss(logits[:1], y[:1]).item() == (
        0 if risen < 0.98 else close(-math.log(0.99))
    )


def test_s4l_is_the_formula():
    method, x = plain(S4L, weight=0.7), images()
    named, text = [], []
    for k in range(4):
        turned = x.rot90(k, (2, 3))
        p = probabilities(method, turned)
        q = torch.stack([method.rotation_head(t.flatten()).softmax(0) for t in turned]).detach()
        named.append(supervised_part(p, Y))
        text.append(np.mean([-math.log(q[i, k]) for i in range(8)]))
    expected = np.mean(named) + 0.7 * np.mean(text)
    assert method.loss((x, Y)).item() == close(expected)


def test_vat_is_the_formula():
    """Of a linear classifier the divergence's gradient is Wᵀ(q − p), in closed form."""
    method, x = plain(VAT, epsilon=0.5, xi=1e-3, weight=1.3, entropy_weight=0.6), images()
    noise = torch.randn(8, 16, generator=torch.Generator().manual_seed(3)).double()
    w, b = (p.detach() for p in method.classifier.parameters())
    p = probabilities(method, x)
    smoothness, entropy = 0.0, 0.0
    for i in range(8):
        flat = x[i].flatten()
        q = (w @ (flat + 1e-3 * noise[i] / noise[i].norm()) + b).softmax(0)
        g = w.T @ (q - p[i])
        q = (w @ (flat + 0.5 * g / g.norm()) + b).softmax(0)
        smoothness += float((p[i] * (p[i] / q).log()).sum()) / 8
        entropy += float(-(p[i] * p[i].log()).sum()) / 8
    expected = supervised_part(p, Y) + 1.3 * smoothness + 0.6 * entropy
    assert method.loss((x, noise, Y)).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_adversarial_direction_beats_random_ones(dtype):
    """Of the same length, through a deep network, for almost every image."""
    method = deep(VAT).to(dtype).eval()
    x = images(64, 16).to(dtype)
    noise = torch.randn(64, 256, dtype=dtype)
    with torch.no_grad():
        now = method.classifier(method.encoder(x))

        def change(d):
            return divergence(now, method.classifier(method.encoder(x + 0.5 * d)))

        d = method.adversarial_direction(x, noise, now)
        assert torch.allclose(d.flatten(1).norm(dim=1), torch.ones(64, dtype=dtype))
        chance = torch.stack(
            [
                change(F.normalize(torch.randn(64, 256, dtype=dtype), dim=1).view_as(x))
                for _ in range(8)
            ]
        )
        result = change(d)
    assert (result > chance.amax(0)).float().mean() > 0.9
    assert result.mean() > 3 * chance.mean()


def test_vat_keeps_adversarial_images_out_of_the_statistics():
    """BatchNorm's running statistics are those of one pass of the images, one process or many."""
    method = deep(VAT)
    other = copy.deepcopy(method.encoder).train()
    x = images(8, 16).float()
    method.loss((x, torch.randn(8, 256), Y))
    other(x)
    state = method.encoder.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in other.state_dict().items())
    assert all(m.track_running_stats for m in method.modules() if isinstance(m, nn.BatchNorm2d))


def views_of(method, y, side=16):
    torch.manual_seed(4)
    return method.views(Batch(images(8, side).float(), torch.arange(8), y))


@pytest.mark.parametrize("cls", ALL)
def test_only_known_labels_matter(cls):
    """The loss is finite with no label and with all; weights of 0 leave supervised learning."""
    method = deep(cls)
    method.progress = 0.8
    for y in (torch.full((8,), -1), Y, Y.clamp(min=0), torch.arange(8) % K):
        views = views_of(method, y)
        assert torch.isfinite(method.loss(views))
    weights = {k: v for k, v in WEIGHTS.items() if hasattr(method, k)}
    for name, value in weights.items():
        setattr(method, name, value)
    *_, y = views = views_of(method, Y)
    x = views[0]
    if cls is S4L:
        x, y = torch.cat([x.rot90(k, (2, 3)) for k in range(4)]), Y.repeat(4)
    if cls in (FixMatch, UDA):
        x, y = torch.cat(views[:2]), torch.cat([Y, torch.full((8,), -1)])
    known = y >= 0
    with torch.no_grad():
        expected = F.cross_entropy(method.classifier(method.encoder(x))[known], y[known])
    assert method.loss(views).item() == close(expected)
    assert method.loss((*views[:-1], torch.full((8,), -1))).item() == 0


def test_rows_without_a_label_give_no_gradient():
    logits = torch.randn(6, K, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0, -1, 2, -1, -1, 1])
    labeled_cross_entropy(logits, y).backward()
    assert (logits.grad.any(1) == (y >= 0)).all()
    assert torch.autograd.gradcheck(lambda z: labeled_cross_entropy(z, y), logits)
    assert labeled_cross_entropy(logits, torch.full((6,), -1)).item() == 0
    bad = torch.tensor([1.0, math.nan, 3.0])
    assert parallel.mean_of(bad, torch.tensor([True, False, True])).item() == 2


@pytest.mark.parametrize("cls", ALL)
def test_hidden_labels_never_arrive(cls, sprites, tmp_path):
    """In a run with six labels a method meets some of these in each batch, and no others."""
    x, y = (part[:96] for part in sprites)
    seen: list = []

    class Spy(cls):
        def views(self, batch):
            seen.append((batch.index, batch.y))
            return super().views(batch)

    options = {"augment": RandomAffine(), "epochs": 1, "batch_size": 32} | QUIET
    ul.train(Spy, (x, y), labels="6", out=tmp_path / "run", **options)
    batches = [(index, labels) for index, labels in seen if len(index) == 32]
    assert all((labels >= 0).any() and (labels < 0).any() for _, labels in batches)
    rows = torch.cat([index[labels >= 0] for index, labels in batches])
    assert len(rows.unique()) <= 6 < len(rows)


def test_dsprites_has_weak_views_and_the_run_opens_again(tmp_path):
    """Recipes hold views; they are recorded, resumed and reopened with the classifier."""
    small = dsprites.load(images=160)
    options = {"epochs": 1, "batch_size": 32, "labels": "6"} | QUIET
    run = ul.train("fixmatch", small, out=tmp_path / "run", **options)
    assert run.config["method_args"]["weak"]["view"] == "RandomAffine"
    opened = reopen(ul.load(tmp_path / "run"))
    assert torch.equal(opened.classifier.weight, run.method.classifier.weight)


def test_the_study_in_miniature(tmp_path):
    """Each way once, on 160 images: both blocks are in the table."""
    study = registry.find("studies", "few_labels")
    scale = Scale(True, study.Settings(labels=("6",), steps=1), QUIET | {"epochs": 1})
    result = run_study(study, tmp_path, scale=scale, data=dsprites.load(images=160))
    assert len(list((tmp_path / "quick" / "runs").iterdir())) == 8
    results = result["experiments"]["F3"]["accuracy"]
    assert set(results) == {*study.FROM_SCRATCH, *study.PRETRAINED}
    assert all(
        0 <= share <= 1 for row in results.values() for values in row.values() for share in values
    )
    page = (tmp_path / "quick" / "report" / "index.html").read_text()
    assert "FixMatch" in page
    assert "SimCLR, fine-tuned" in page
