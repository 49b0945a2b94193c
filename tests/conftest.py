"""Shapes and types are checked at run time in every test; one thread each; data is found."""

import os
import signal

os.environ["OMP_NUM_THREADS"] = "1"  # of what the tests start as well
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # read at import; it asks by gRPC

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
signal.signal(signal.SIGTERM, lambda *_: pytest.exit("stopped by SIGTERM", 143))  # with teardown

# Every jaxtyping annotation is enforced while testing, in the modules that have some.
SOURCE = Path(find_spec("unlabeled").origin).parent
install_import_hook(
    [
        ".".join(("unlabeled", *path.relative_to(SOURCE).with_suffix("").parts))
        for path in SOURCE.rglob("*.py")
        if "from jaxtyping" in path.read_text(encoding="utf-8")
    ],
    "beartype.beartype",
)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory) -> Path:
    """Decoded images of the tests, apart from the user's own; what is compiled is shared."""
    path = tmp_path_factory.mktemp("cache")
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = tmp_path_factory.getbasetemp().parent / "kernels"
        shared.mkdir(exist_ok=True)
        (path / "kernels").symlink_to(shared)
    os.environ["UNLABELED_CACHE"] = str(path)
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Where real data lies; tests that need it are skipped elsewhere."""
    here = Path(__file__).parent.parent
    folder = Path(os.environ.get("UNLABELED_DATA", here.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("real data is not here: set UNLABELED_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def sprites() -> tuple[np.ndarray, np.ndarray]:
    """600 rendered images (600, 64, 64) and their shapes (600,)."""
    from unlabeled.data.sets.dsprites import Grid, classes_of

    rows = np.random.default_rng(3).permutation(len(Grid()))[:600]
    return Grid()[rows], classes_of(rows)[:, 0]


@pytest.fixture(scope="session")
def trained(sprites, tmp_path_factory):
    """A short run on labeled images in memory, for tests that only read it."""
    import unlabeled as ul

    out = tmp_path_factory.mktemp("runs") / "simclr"
    return ul.train("simclr", data=sprites, out=out, epochs=2, batch_size=64, progress=False)
