"""Build wheel and sdist, and try each in an environment that has nothing else.

python bench/smoke.py                     with this Python
python bench/smoke.py --python PATH …     with others
python bench/smoke.py --keep dist         keep what was built

In each environment: `import unlabeled`, `unlabeled --help`, `unlabeled list weights`, features of
an array by weights of the package, a training of one epoch; once with compiled augmentations and
once where no compiler is found. `unlabeled demo --quick` is timed once. It needs pip, and network
or packages that are here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PROGRAM = """
import pathlib
import numpy as np
import unlabeled as ul
from unlabeled.augmentations import kernel
run = ul.load("unlabeled:simclr-dsprites")
x = np.random.default_rng(0).integers(0, 256, (64, 64, 64), dtype=np.uint8)
assert run.embed(x).shape == (64, run.dim)
if __name__ == "__main__":
    trained = ul.train("simclr", x, epochs=1, batch_size=32, out="run", progress=False)
    again = ul.load(trained.save_pretrained("published"))
    assert np.allclose(again.embed(x), trained.embed(x), atol=1e-6)
    print("augmentations:", kernel.implementation_used())
"""


def build(out: Path, python: str) -> tuple[Path, Path]:
    """A wheel and an sdist, the wheel made from the sdist; their lists of files are checked."""
    run(python, "-m", "venv", out / "builder")
    builder = executable(out / "builder")
    run(builder, "-m", "pip", "install", "-q", "build")
    run(builder, "-m", "build", "--outdir", out / "dist", ROOT, quiet=True)
    wheel, sdist = next((out / "dist").glob("*.whl")), next((out / "dist").glob("*.tar.gz"))
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    sources = (path for path in (ROOT / "src").rglob("*") if path.is_file())
    wanted = {p.relative_to(ROOT / "src").as_posix() for p in sources if p.suffix != ".pyc"}
    if missing := wanted - names:
        raise SystemExit(f"the wheel lacks {', '.join(sorted(missing)[:5])}")
    with tarfile.open(sdist) as file:
        parts = {name.partition("/")[2] for name in file.getnames()}
    if missing := {"README.md", "LICENSE", "pyproject.toml", "Makefile"} - parts:
        raise SystemExit(f"the sdist lacks {', '.join(sorted(missing))}")
    print(f"{wheel.name} {wheel.stat().st_size:,} bytes, {sdist.name} {sdist.stat().st_size:,}")
    return wheel, sdist


def try_package(package: Path, python: str, folder: Path) -> None:
    """Install a package alone and use it, away from the sources."""
    run(python, "-m", "venv", folder / "env")
    own = executable(folder / "env")
    run(own, "-m", "pip", "install", "-q", package)
    run(own, "-m", "pip", "check")
    (folder / "program.py").write_text(PROGRAM)
    for title, path in (("", os.environ["PATH"]), (" without compiler", str(own.parent))):
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CC", "CXX")}
        environment |= {"PATH": path, "UNLABELED_CACHE": str(folder / f"cache{len(title)}")}
        shutil.rmtree(folder / "run", ignore_errors=True)
        shutil.rmtree(folder / "published", ignore_errors=True)
        command = (own.parent / "unlabeled", "--help")
        run(*command, cwd=folder, env=environment, quiet=True)
        run(own, "-m", "unlabeled", "list", "weights", cwd=folder, env=environment, quiet=True)
        print(f"{package.suffix} on {python}{title}:", end=" ", flush=True)
        run(own, "program.py", cwd=folder, env=environment)
        if package.suffix == ".whl" and not title:
            began = time.perf_counter()
            run(own, "-m", "unlabeled", "demo", "--quick", cwd=folder, env=environment, quiet=True)
            print(f"  unlabeled demo --quick: {time.perf_counter() - began:.0f} s")


def executable(folder: Path) -> Path:
    """Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*words: str | Path, quiet: bool = False, **options: Any) -> None:
    """Run a command; SystemExit with its output if it fails."""
    done: Any = subprocess.run([*map(str, words)], capture_output=quiet, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed\n{done.stdout}\n{done.stderr}")


def main() -> None:
    """Build, then try."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    parser.add_argument("--keep", type=Path, help="folder to keep wheel and sdist in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        packages = build(out, args.python[0])
        for i, python in enumerate(args.python):
            for package in packages if i == 0 else packages[:1]:
                folder = out / f"{i}{package.suffix}"
                folder.mkdir()
                try_package(package, python, folder)
                shutil.rmtree(folder)
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
            for package in packages:
                shutil.copy(package, args.keep)


if __name__ == "__main__":
    main()
