"""If something is missing, one line of this library says so; other libraries stay silent."""

import logging
import os
import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

from unlabeled.errors import Notice
from unlabeled.utils.quiet import quiet

OURS = re.compile(r"(simclr|supervised|explore): .*|learning rate .*")


def output_of(code, tmp_path, *words, **settings):
    """The status of a Python in which nothing is filtered from outside, and its lines of stderr."""
    environment = os.environ | {"UNLABELED_CACHE": str(tmp_path / "cache")} | settings
    for name in ("CXX", "CC", "UNLABELED_COMPILE", "PYTHONWARNINGS"):
        environment.pop(name, None)
    command = [sys.executable, *(["-c", textwrap.dedent(code)] if code else []), *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    return done.returncode, [line for line in done.stderr.splitlines() if line]


DATA = """
    import sys
    import numpy as np
    import unlabeled as ul
    x = np.random.default_rng(0).integers(0, 255, (120, 16, 16)).astype(np.uint8)
    y = np.arange(120) % 3
    options = {"epochs": 1, "batch_size": 48}
"""


@pytest.fixture
def nothing(tmp_path):
    """A folder to be all of PATH."""
    (tmp_path / "empty").mkdir()
    return str(tmp_path / "empty")


@pytest.mark.slow
def test_without_a_compiler_one_line_each_says_what_is_slower(tmp_path, nothing):
    """Of resampling and of word2vec; PyTorch's builder would print a banner of thirty lines."""
    code = (
        DATA
        + """
    from unlabeled.pipelines.word2vec import word2vec
    from unlabeled.augmentations import RandomAffine
    run = ul.train("simclr", x, augment=RandomAffine(), out="run", **options)
    ul.train("simclr", x, augment=RandomAffine(), out="again", **options)
    text = [["a", "b", "c", "d"]] * 50
    word2vec(text, out="words", min_count=1, epochs=1, progress=False)
    """
    )
    status, lines = output_of(code, tmp_path, PATH=nothing)
    assert status == 0, lines
    notices = [line for line in lines if "Notice" in line]
    assert len(notices) == 2, lines
    for line, slower in zip(
        notices, ("affine augmentations and crops are", "word2vec is"), strict=True
    ):
        assert re.search(f"no C\\+\\+ compiler that works.*{slower} .*slow", line)
    others = [line for line in lines if line not in notices and not line.startswith("  ")]
    assert all(map(OURS.fullmatch, others)), others  # what begins with blanks is the line of code


@pytest.mark.parametrize("setting", [{}, {"CXX": "/nowhere/g++"}, {"CXX": "true"}])
def test_compile_without_a_compiler_is_one_sentence_and_leaves_no_folder(
    setting, tmp_path, nothing, monkeypatch
):
    """A path to a compiler is none yet: it has to make something."""
    import unlabeled as ul
    from unlabeled.errors import UserError

    if not setting:
        monkeypatch.setenv("PATH", nothing)
    monkeypatch.delenv("CXX", raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    x = np.zeros((40, 8, 8), np.uint8)
    with pytest.raises(
        UserError, match=r"there is no C\+\+ compiler that works here .*; omit"
    ) as e:
        ul.train("simclr", x, compile=True, out=tmp_path / "run")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "run").exists()


def test_the_command_says_it_in_one_line(tmp_path, nothing):
    np.save(tmp_path / "x.npy", np.zeros((40, 8, 8), np.uint8))
    words = ("-m", "unlabeled", "train", "simclr", "--data", "x.npy", "--compile", "--out", "run")
    status, lines = output_of("", tmp_path, *words, PATH=nothing)
    assert (status, len(lines)) == (2, 1), lines
    assert re.match(r"unlabeled: there is no C\+\+ compiler that works here", lines[0])


@pytest.mark.parametrize(
    "offline", [{"HF_HUB_OFFLINE": "1"}, {"HTTPS_PROXY": "http://127.0.0.1:9"}]
)
def test_offline_weights_that_are_not_here_are_one_sentence(offline, tmp_path):
    """Without HF_HUB_OFFLINE the hub would tell of each of its retries."""
    pytest.importorskip("transformers", reason="pip install 'unlabeled[hf]'")
    code = """
    from unlabeled.encoders.base import build
    from unlabeled.errors import UserError
    import huggingface_hub.utils._http as http
    http.time.sleep = lambda seconds: None  # between retries
    try:
        build("hf:nobody/nothing", 3, (32, 32))
    except UserError as error:
        print(error)
    """
    settings = {"HF_HOME": str(tmp_path / "hf"), **offline}
    environment = os.environ | settings
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    assert re.fullmatch(
        r"the weights of 'hf:nobody/nothing' are neither cached .*hf:FOLDER\n", done.stdout
    )


@pytest.mark.slow
def test_in_a_notebook_nothing_else_is_reported(tmp_path):
    """From training to export, where no terminal is, on the head of a cluster."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "srun").chmod(0o755)
    code = (
        """
    import sys, types
    class ZMQInteractiveShell:
        config = {"IPKernelApp": {}}
    shell = types.ModuleType("IPython")
    shell.get_ipython = lambda: ZMQInteractiveShell()
    shell.version_info = (9, 0)  # which matplotlib looks at
    sys.modules["IPython"], sys.ps1 = shell, ">>> "
    """
        + DATA
        + """
    from unlabeled.evaluation.finetune import finetune
    from unlabeled.runs.export import export
    from unlabeled.report.explore import explore
    run = ul.train("simclr", (x, y), out="run", **options)
    ul.evaluate(run)
    run.embed(x)
    explore(run, x, "map.html", layout="pca")
    export(run, "torchscript")
    finetune(run, (x, y), epochs=1, scratch=False)
    """
    )
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    status, lines = output_of(code, tmp_path, PATH=path)
    assert status == 0, lines
    assert all(map(OURS.fullmatch, lines)), lines


def test_errors_notices_and_the_users_own_warnings_are_not_hidden(capfd):
    """And levels are what they were before, afterwards."""
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet():
            logger.warning("of its own making")
            logging.getLogger("transformers.anything").error("something broke")
            warnings.warn("a notice", Notice, stacklevel=1)
            warnings.warn("of the user", UserWarning, stacklevel=1)
            warnings.warn_explicit("foreign", UserWarning, "x.py", 1, module="lightning.fabric.x")
            warnings.warn_explicit("not", UserWarning, "x.py", 1, module="torchlike.x")
    assert [str(w.message) for w in caught] == ["a notice", "of the user", "not"]
    output = capfd.readouterr().err
    assert "of its own making" not in output
    assert logger.level == before
