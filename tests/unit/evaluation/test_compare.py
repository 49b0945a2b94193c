"""Which samples runs are compared on, and what may be said of their differences."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from torch import nn

import unlabeled as ul
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation import stored
from unlabeled.evaluation.rdm import rdm
from unlabeled.evaluation.similarity import cca, similarity_of_encoders

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* groups of .* are tested on"),
    pytest.mark.filterwarnings("ignore:all are evaluated on the data of"),
]

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(256, 4)

    def forward(self, x):
        return self.layer(x.flatten(1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs on 120 images, one of them trained with groups of ten, and a run of an own net."""
    folder = tmp_path_factory.mktemp("compared")
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = rng.integers(0, 200, (120, 16, 16)).astype(np.uint8)
    x[y == 0, :, :8] += 55
    np.savez(folder / "data.npz", images=x, labels=y)
    np.save(folder / "patients.npy", np.arange(120) // 10)
    (folder / "net.py").write_text(NET)
    options = {"data": folder / "data.npz", "epochs": 1, "batch_size": 32, "progress": False}
    ul.train("simclr", out=folder / "plain", **options)
    ul.train("simclr", groups_from=folder / "patients.npy", out=folder / "grouped", **options)
    ul.train("simclr", encoder=f"{folder / 'net.py'}:Net", out=folder / "own", **options)
    return folder


def test_groups_are_those_of_the_first_run(folder):
    """Catches: intervals over single samples, or other test samples for a later run."""
    with pytest.warns(Notice, match="samples are grouped by .*patients.npy, as in the training"):
        result = ul.compare([folder / "grouped", folder / "grouped" / ".." / "plain"])
    groups = folder / "patients.npy"
    expected = ul.evaluate(ul.load(folder / "plain"), folder / "data.npz", groups_from=groups)
    assert result["n_test_groups"] == expected["n_test_groups"] > 1
    assert result["n_test"] == expected["n_test"]
    metric = result["runs"]["plain"]["metrics"]["knn"]
    assert [metric["low"], metric["high"]] == pytest.approx(
        [expected["metrics"]["knn"]["low"], expected["metrics"]["knn"]["high"]]
    )
    asked = ul.compare([folder / "plain", folder / "grouped"], groups_from=groups)
    assert asked["runs"]["plain"]["metrics"] == result["runs"]["plain"]["metrics"]
    options = ul.compare(["raw", folder / "plain"], data=folder / "data.npz", groups_from=groups)
    assert options["runs"]["plain"]["metrics"] == result["runs"]["plain"]["metrics"]
    assert ul.compare([folder / "plain", "raw"])["n_test_groups"] is None


def test_encoders_by_name_are_fitted_to_the_training_part(folder, monkeypatch):
    """Catches: PCA that has seen test samples, as it was fitted to another split."""
    fitted = []
    from unlabeled.runs import run as runs

    build = runs.build_for
    monkeypatch.setattr(runs, "build_for", lambda name, s: fitted.append(s) or build(name, s))
    groups = np.arange(120) // 10
    ul.compare([folder / "plain", "pca"], groups_from=groups)
    splits = ul.open_data(folder / "data.npz", groups_from=groups)
    np.testing.assert_array_equal(fitted[0].train.x, splits.train.x)


def test_random_is_the_run_without_its_training_and_probes_are_tuned_for_each(folder):
    """Catches: trained weights under the name, another architecture, or one penalty for all."""
    result = ul.compare([folder / "plain", "random"])
    expected = ul.evaluate(ul.load(folder / "plain"))
    for key, value in result["runs"]["random"]["metrics"].items():
        assert value["value"] == pytest.approx(expected["baselines"]["random"][key]["value"])
    assert result["settings"]["random"] == expected["settings"]["random"]
    assert result["settings"]["plain"] == expected["settings"]["simclr"]
    with pytest.raises(UserError, match="random is the encoder of a trained run"):
        ul.compare(["random", "raw"], data=folder / "data.npz")


def test_an_own_encoder_is_given_once_for_all_runs_that_need_it(folder):
    """Catches: the network put in place of those of other runs, or not passed on."""
    result = ul.compare([folder / "plain", folder / "own"], encoder=f"{folder / 'net.py'}:Net")
    dims = {name: run["metrics"]["dim"]["value"] for name, run in result["runs"].items()}
    assert dims == {"plain": 128, "own": 4}
    with pytest.raises(UserError, match="none of these has one; omit --encoder"):
        ul.compare([folder / "plain", "raw"], encoder=f"{folder / 'net.py'}:Net")


def test_size_is_of_encoders_by_name(folder):
    """Catches: a size that is ignored, or refused because of the run folders beside it."""
    result = ul.compare([folder / "plain", "raw"], size=8)
    assert result["runs"]["raw at 8 px"]["metrics"]["dim"]["value"] == 64
    with pytest.raises(UserError, match="--size is 0; give the side in pixels"):
        ul.compare([folder / "plain", "raw"], size=0)
    with pytest.raises(UserError, match="these are run folders; omit --size"):
        ul.compare([folder / "plain", folder / "grouped"], size=8)


def test_texts_in_other_tokens_are_not_compared(tmp_path):
    """Catches: answers to the pieces of one text paired with those of other pieces."""
    words = ["sun", "rain", "river", "stone", "cloud", "field", "night", "tree"]
    rng = np.random.default_rng(0)
    (tmp_path / "a.txt").write_text(" ".join(rng.choice(words, 6000)))
    (tmp_path / "b.txt").write_text(" ".join(rng.choice([*words[:3], "mountain", "sea"], 6000)))
    for name in "ab":
        options = {"epochs": 1, "batch_size": 32, "progress": False, "out": tmp_path / name}
        ul.train("masked_lm", data=tmp_path / f"{name}.txt", **options)
    with pytest.raises(UserError, match="receive the data in other pieces"):
        ul.compare([tmp_path / "a", tmp_path / "b"], data=tmp_path / "a.txt")


def test_the_same_weights_in_another_network_are_other_features(folder):
    """Catches: a key of stored features with the weights alone, or without the configuration."""
    run, again = ul.load(folder / "plain"), ul.load(folder / "plain")
    assert stored.digest_of_encoder(again) == stored.digest_of_encoder(run)
    name = next(n for n, m in again.encoder.named_modules() if isinstance(m, nn.ReLU))
    again.encoder.set_submodule(name, nn.LeakyReLU())
    assert stored.digest_of_encoder(again) != stored.digest_of_encoder(run)
    again.config["seed"] = 7
    assert stored.digest_of_method(again) != stored.digest_of_method(run)


def test_the_interval_of_cca_is_the_jackknife():
    """Catches: a wrong influence of a sample on the mean canonical correlation."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 3))
    b = a @ rng.normal(size=(3, 4)) + rng.normal(size=(60, 4))
    result = cca(a, b)

    def weighted(weights):
        rows = np.sqrt(weights)[:, None]
        bases = []
        for z in (a, b):
            centered = z - np.average(z, axis=0, weights=weights)
            bases.append(np.linalg.svd(rows * centered, full_matrices=False)[0])
        return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).mean()

    step = 1e-5
    plain = weighted(np.ones(60))
    influence = [(weighted(np.ones(60) + step * (np.arange(60) == i)) - plain) / step
                 for i in range(60)]  # fmt: skip
    half = 1.959964 * np.sqrt(np.square(influence).sum())
    assert float(result) == pytest.approx(plain, abs=1e-8)
    assert result.interval == pytest.approx((plain - half, plain + half), abs=1e-4)
    assert np.isnan(cca(a, b, "pwcca").interval).all()


def test_rsa_of_many_encoders_is_that_of_each_pair():
    """Catches: ranks that are not centered, or of the wrong triangle."""
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(30, 5)) for name in "abc"}
    features["b"] += features["a"]
    result = similarity_of_encoders(features, ["rsa"])["rsa"]
    pairs = np.triu_indices(30, 1)
    for i, x in enumerate(features.values()):
        for j, y in enumerate(features.values()):
            expected = spearmanr(rdm(x)[pairs], rdm(y)[pairs]).statistic
            assert result[i, j] == pytest.approx(expected, abs=1e-8)


def test_the_noise_ceiling_is_public():
    """Catches: a name in the documentation that the package does not have."""
    matrices = [rdm(np.random.default_rng(i).normal(size=(10, 4))) for i in range(3)]
    assert ul.noise_ceiling(matrices).lower <= ul.noise_ceiling(matrices).upper
