"""What training on a GPU gives: its tests, images a second, use of the hardware, memory, accuracy.

    python bench/gpu.py tests                 the tests in tests/gpu and those of fused losses
    python bench/gpu.py throughput            SimCLR steps of several networks and sizes
    python bench/gpu.py cifar10 --minutes 9   a leg of SimCLR with ResNet-18 on CIFAR-10
    python bench/gpu.py evaluate              linear probe and k-NN of the legs so far

Each writes its part of results/gpu.json. CIFAR-10 is looked for in $UNLABELED_DATA, and the run of
its legs is kept in FOLDER (--folder, default: runs/gpu). MFU is the share of the machine's peak
that the mathematics of the networks takes: floating-point operations of the forward and backward
passes as PyTorch counts them, over time, over the rate of a product of matrices of 8,192 × 8,192 in
the same precision, measured here. --device cpu tries the same code on a CPU, with small sizes.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import unlabeled as ul
from unlabeled import registry
from unlabeled.augmentations import SimCLRAugment
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
EPOCHS, BATCH = 200, 512
CASES = [
    ("small", 32, 1024),
    ("resnet18", 32, 512),
    ("resnet18", 224, 256),
    ("resnet50", 224, 128),
    ("vit_small", 224, 128),
    ("vit_base", 224, 64),
]
"""Network, side of the views in pixels, and images of a step."""
TRIAL = [("small", 32, 16), ("resnet18", 32, 4)]
WARM, TIMED, ROUNDS = 5, 10, 5


def timed(step: Callable[[], None], device: str, steps: int) -> float:
    """Seconds of a step, the GPU's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def peak(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second in a large product of matrices."""
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))

    def product() -> None:
        torch.mm(a, b)

    timed(product, device, 3)
    return 2 * n**3 / min(timed(product, device, 5) for _ in range(ROUNDS))


def measure(
    name: str, size: int, batch: int, device: str, precision: str, compiled: bool
) -> dict[str, Any]:
    """Steps of SimCLR with views, loss, backward pass and optimizer on random images."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    method = registry.find("methods", "simclr")(
        build(name, 3, (size, size)), augment=SimCLRAugment(blur=0.5 if size > 64 else 0.0)
    )
    method = method.to(device, memory_format=torch.channels_last).train()
    if compiled:
        method.encoder.compile()
    optimizer = torch.optim.AdamW(method.parameters(), 1e-4, fused=True)
    pool = torch.randint(0, 256, (2 * batch, 3, size, size), dtype=torch.uint8, device=device)

    def networks(views: Any) -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = method.loss(views)
        optimizer.zero_grad()
        loss.backward()

    def step() -> None:
        rows = torch.randint(len(pool), (batch,), device=device)
        with torch.no_grad():
            views = method.views(Batch(pool[rows].float() / 255, rows))
        networks(views)
        optimizer.step()

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    timed(step, device, WARM)
    rounds = [timed(step, device, TIMED if device == "cuda" else 2) for _ in range(ROUNDS)]
    seconds = statistics.median(rounds)
    with torch.no_grad():
        views = method.views(Batch(pool[:batch].float() / 255, torch.arange(batch, device=device)))
    operations = 0
    if not compiled:
        with FlopCounterMode(display=False) as counter:
            networks(views)
        operations = counter.get_total_flops()
    return {
        "encoder": name,
        "size": size,
        "batch_size": batch,
        "precision": precision,
        "compiled": compiled,
        "images_per_second": batch / seconds,
        "step_ms": 1000 * seconds,
        "step_ms_range": [1000 * min(rounds), 1000 * max(rounds)],
        "operations_per_step": operations,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
    }


def throughput(device: str) -> dict[str, Any]:
    """Each case in fp32 with TF32 and in bf16, then compiled in bf16."""
    torch.set_float32_matmul_precision("high")
    peaks = {"bf16": peak(device, torch.bfloat16), "fp32": peak(device, torch.float32)}
    rows = []
    for name, size, batch in CASES if device == "cuda" else TRIAL:
        operations = 0
        for precision, compiled in (("fp32", False), ("bf16", False), ("bf16", True)):
            if compiled and device == "cpu":
                continue
            try:
                row = measure(name, size, batch, device, precision, compiled)
            except torch.OutOfMemoryError:
                row = {"encoder": name, "size": size, "batch_size": batch, "out_of_memory": True}
            else:
                operations = row["operations_per_step"] = row["operations_per_step"] or operations
                rate = operations / (row["step_ms"] / 1000)
                row["share_of_peak"] = rate / peaks[precision]
            rows.append(row)
            print(json.dumps(row), flush=True)
            gc.collect()
            torch.cuda.empty_cache()
    return {"peak_operations_per_second": peaks, "rows": rows}


def tests(device: str) -> dict[str, Any]:
    """Run the tests of GPUs."""
    files = ["tests/gpu", "tests/unit/objectives/test_grouped.py", "tests/contract"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-2000:])
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {"summary": done.stdout.strip().splitlines()[-1], "failed": failed}


def leg(device: str, folder: Path, minutes: float) -> dict[str, Any]:
    """Go on with SimCLR on CIFAR-10 for some minutes."""
    started = time.perf_counter()
    hours, rest = divmod(round(minutes * 60), 3600)
    run = ul.train(
        "simclr",
        "cifar10",
        out=folder,
        resume=True,
        encoder="resnet18",
        epochs=EPOCHS,
        batch_size=BATCH,
        accelerator="gpu" if device == "cuda" else "cpu",
        progress=False,
        trainer={"max_time": f"00:{hours:02}:{rest // 60:02}:{rest % 60:02}"},
    )
    seconds = time.perf_counter() - started
    with (folder / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    return {"seconds_of_last_leg": seconds, "epochs": EPOCHS, "images": run.config["images"]} | last


def evaluation(folder: Path) -> dict[str, Any]:
    """Linear probe and k-NN on the test images."""
    return {"metrics": ul.evaluate(ul.load(folder))["metrics"]}


def main() -> None:
    """Measure one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=["tests", "throughput", "cifar10", "evaluate"])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path, default=Path("results/gpu.json"))
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no GPU here; --device cpu tries the code on a CPU")
    if args.part == "tests":
        results = tests(args.device)
    elif args.part == "throughput":
        results = throughput(args.device)
    elif args.part == "cifar10":
        results = leg(args.device, args.folder, args.minutes)
    else:
        results = evaluation(args.folder)
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else "none: a trial on a CPU"
    result |= {args.part: results, "gpu": gpu, "seed": 0, "versions": versions()}
    write_json(args.out, result)
    print(f"{args.out}: {args.part}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
