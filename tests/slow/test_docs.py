"""Code blocks of the documents run; their figures and links are right."""

import re
import warnings
from pathlib import Path

import pytest
import torch

from unlabeled.errors import Notice

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name: str) -> list[str]:
    return BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))


def run(name: str, folder: Path, monkeypatch) -> dict:
    """Variables after all Python blocks of a document were executed in a folder."""
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    scope: dict = {}
    for block in blocks(name):
        exec(compile(block, name, "exec"), scope)  # the document is ours
    return scope


def test_readme_runs_from_top_to_bottom(tmp_path, monkeypatch):
    scope = run("README.md", tmp_path, monkeypatch)
    assert scope["features"].shape == (1844, 128)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.slow
def test_the_page_on_python_runs(tmp_path, monkeypatch):
    scope = run("docs/python.md", tmp_path, monkeypatch)
    assert scope["features"].shape == (1844, 128)
    assert 0 < scope["result"]["metrics"]["linear_probe"]["low"] < 1
    assert scope["search"].best_params_["selfsupervised__temperature"] in (0.1, 0.5)
    assert torch.isfinite(scope["loss"])


def test_the_similarity_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    scope: dict = {}
    for block in blocks("docs/similarity.md"):
        exec(compile(block, "similarity.md", "exec"), scope)  # the document is ours
    assert scope["matrix"].shape == (1000, 1000)
    assert scope["ceiling"].lower < scope["ceiling"].upper
    assert (tmp_path / "rdm.png").stat().st_size > 10_000
    assert (tmp_path / "cka.png").stat().st_size > 5_000


def test_the_page_on_classifiers_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    for block in blocks("docs/classify.md"):
        exec(compile(block, "classify.md", "exec"), scope)  # the document is ours
    assert scope["figures"]["accuracy"]["low"] > scope["figures"]["most_frequent_class"]["high"]
    assert scope["p"].shape == (5, 3)
    assert len(set(scope["rows"])) == 50


def test_the_page_on_exploring_runs(tmp_path, monkeypatch):
    """Catches a page that names other arguments or keys than `explore` has."""
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        for block in blocks("docs/explore.md"):
            exec(compile(block, "explore.md", "exec"), scope)  # the document is ours
    assert len(set(scope["found"]["suggested"])) == 20
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 601


@pytest.mark.parametrize(
    "name",
    [
        *("start", "data", "tables-series", "reading", "exporting"),
        pytest.param("notebooks", marks=pytest.mark.slow),
    ],
)
def test_a_guide_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    """Catches blocks of Python that name other functions or arguments than there are."""
    if name == "exporting":
        pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    scope: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        for block in blocks(f"docs/{name}.md"):
            exec(compile(block, f"{name}.md", "exec"), scope)  # the document is ours
    assert "ul" in scope


def test_plain_pytorch_takes_under_15_lines():
    loop = next(b for b in blocks("docs/python.md") if "optimizer.step()" in b)
    code = [line for line in loop.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(code) < 15


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/lectures/README.md",
        "docs/tested.md",
        "docs/glossary.md",
        "docs/similarity.md",
        "docs/classify.md",
        "docs/explore.md",
        "docs/distributed.md",
    ],
)
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        assert ((ROOT / name).parent / link).exists(), link


def test_figures_in_the_readme_are_those_of_the_results():
    import runpy

    filled = runpy.run_path(str(ROOT / "bench" / "readme.py"))["filled"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert filled(readme) == readme, "run python bench/readme.py"


def test_withdrawn_figures_are_not_shown():
    """Catches a README that shows figures of a bug, also within a mean."""
    import runpy

    readme = runpy.run_path(str(ROOT / "bench" / "readme.py"))
    figures = {"M1": {"vae": {"linear": 0.5721, "seeds": [0.1, 0.2]}, "simclr": {"linear": 0.98}}}
    left = readme["without"](figures, ["M1", "vae"])["M1"]
    assert f"{100 * left['vae']['linear']:.1f}" == "withdrawn"
    assert readme["spread"](left["vae"]["seeds"], 2) == "withdrawn"
    assert left["simclr"] == figures["M1"]["simclr"]
    assert sorted(left, key=lambda n: readme["by_size"](left[n]["linear"])) == ["simclr", "vae"]
    with pytest.raises(SystemExit, match="no 'bigan' to withdraw"):
        readme["without"](figures, ["M1", "bigan"])


def test_a_study_run_again_is_no_longer_withdrawn(tmp_path):
    """Catches withdrawals that outlive new figures, or that `--only` drops for the others."""
    import runpy

    joined = runpy.run_path(str(ROOT / "bench" / "keep.py"))["joined"]
    same = {"quick": False, "seeds": 1, "cores": 2, "versions": {}, "claims": {}, "minutes": {}}
    withdrawn = {"experiments/A/x": "why", "experiments/B/y": "why"}
    old = same | {"experiments": {"A": {"x": 1}, "B": {"y": 1}}, "withdrawn": withdrawn}
    assert joined(old, same | {"experiments": {"A": {"x": 2}}})["withdrawn"] == {
        "experiments/B/y": "why"
    }
    assert "withdrawn" not in joined(old, same | {"experiments": {"A": {}, "B": {}}})


def test_platforms_that_the_readme_names_are_in_the_table_of_what_has_run():
    """Catches a README that promises a platform without saying that it has not been run."""
    table = (ROOT / "docs" / "tested.md").read_text(encoding="utf-8").lower()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("docs/tested.md") >= 2
    names = ("cuda", "gpu", "nccl", "triton", "slurm", "srun", "torchrun", "wandb", "downloaded")
    platforms = (*names, "timm", "hf", "windows", "macos", "mps")
    named = [p for p in platforms if re.search(rf"\b{p}s?\b", readme, re.IGNORECASE)]
    assert "gpu" in named
    assert "slurm" in named or "srun" in named
    missing = [p for p in named if p.removesuffix("ed") not in table]
    assert not missing, f"docs/tested.md has no row about {', '.join(missing)}"
    assert "unchanged, on GPUs" not in readme


def test_every_command_of_the_readme_is_one():
    from unlabeled.cli.main import commands

    used = re.findall(r"^unlabeled (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(used) <= set(commands())
