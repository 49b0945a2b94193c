"""How the processes of a training are started: by torchrun, by SLURM's srun, or by Lightning.

SLURM stops a job that has reached its time limit, or that others take precedence over, and can put
it back into its queue. `#SBATCH --signal=SIGUSR1@90` sends SIGUSR1 in time; the training is then
saved, the job is requeued, and the same command resumes it.
"""

from __future__ import annotations

import builtins
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unlabeled.errors import Stopped, UserError, notice

REQUEUE = getattr(signal, "SIGUSR1", None)
"""The signal upon which a job of SLURM is saved and requeued; Windows has none."""
SECONDS = 60
"""Timeout of scontrol in seconds."""


def is_first() -> bool:
    """Whether this is the process that prints and writes, by the launcher's environment variables.

    torchrun sets RANK; Lightning, which starts the other processes itself, LOCAL_RANK; launchers of
    one process per machine, NODE_RANK; SLURM's SLURM_PROCID counts if none of them is set.
    """
    names = ["RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK"]
    if not {"RANK", "LOCAL_RANK"} & set(os.environ):
        names.append("SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


def check_launch(devices: int, nodes: int, processes: int = 1) -> None:
    """Check that the number of processes can be had.

    Args:
        devices: processes on each machine.
        nodes: machines.
        processes: that an earlier training in this program has connected.

    Raises:
        UserError: torchrun, SLURM or an earlier training here started another number of processes;
            or this program cannot be run again to start further ones.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        started, here = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_WORLD_SIZE", 0))
        _check_number("torchrun", started, here, devices, nodes)
    elif "SLURM_NTASKS" in os.environ and _job_name() not in ("bash", "interactive"):
        started = int(os.environ["SLURM_NTASKS"])
        here = int(os.environ.get("SLURM_NTASKS_PER_NODE", 0))
        _check_number("SLURM", started, here, devices, nodes)
        if started > 1 and not here:
            raise UserError(
                f"SLURM started {started} tasks without saying how many on each node; use "
                f"--ntasks-per-node={devices} instead of --ntasks"
            )
        if started > 1 and "SLURM_STEP_ID" not in os.environ:
            raise UserError(
                f"SLURM has {started} tasks for this job, but only srun starts them; write srun "
                "before the command"
            )
    elif processes > 1:
        _check_number("an earlier training here", processes, 0, devices, nodes)
    elif devices * nodes > 1 and not _can_run_again():
        raise UserError(
            f"{devices * nodes} devices need one process each, which a notebook, python -c or an "
            "interactive Python cannot start; use devices=1 here, or run the call from a file with "
            "python FILE, or use the command unlabeled train in a terminal"
        )


def _check_number(by: str, started: int, here: int, devices: int, nodes: int) -> None:
    """Raise UserError if a launcher started another number of processes, `here` on each machine."""
    if here and started % here == 0:
        fits = (here, started // here) == (devices, nodes)
        remedy = f"give --devices {here} --nodes {started // here}, or start others"
    else:
        fits = started == devices * nodes
        remedy = f"set --devices and --nodes so that their product is {started}, or start others"
    if not fits:
        raise UserError(
            f"{by} started {started} process{'es' if started > 1 else ''}"
            f"{f', {here} on each machine' if here else ''}, but devices × nodes is {devices} × "
            f"{nodes}; {remedy}"
        )


def _job_name() -> str | None:
    return os.environ.get("SLURM_JOB_NAME")


def _can_run_again() -> bool:
    """Whether there is a script or module to start further processes with."""
    if {"RANK", "LOCAL_RANK"} & set(os.environ):
        return True  # a launcher started this process
    if hasattr(sys, "ps1") or sys.flags.interactive or hasattr(builtins, "get_ipython"):
        return False
    by_name = getattr(sys.modules.get("__main__"), "__spec__", None) is not None
    return by_name or Path(sys.argv[0]).is_file()


def slurm_job() -> str | None:
    """The number of the job of SLURM that this process belongs to; None outside of one."""
    return os.environ.get("SLURM_JOB_ID")


def is_started_again() -> bool:
    """Whether SLURM has restarted this job."""
    return slurm_job() is not None and os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def stop_signals() -> list[int]:
    """Signals that stop a training after it is saved; Windows has no SIGHUP."""
    names = ["SIGINT", "SIGTERM", "SIGHUP", *(["SIGUSR1"] if slurm_job() else [])]
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextmanager
def requeueing() -> Iterator[None]:
    """Context in which SIGUSR1, after it has stopped the work, requeues the job of SLURM."""
    try:
        yield
    except Stopped as stop:
        if slurm_job() and stop.number == REQUEUE and is_first():
            _requeue()
        raise


def _requeue() -> None:
    """Put the job of SLURM back into its queue; a notice says so, or that it failed."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    job = f"{array}_{task}" if array and task else slurm_job() or ""
    try:
        subprocess.run(
            ["scontrol", "requeue", job], check=True, capture_output=True, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "stderr", None) or str(error).encode()
        why_in_a_line = " ".join(why.decode(errors="replace").split())
        notice(f"SLURM did not requeue job {job} ({why_in_a_line}); submit it again")
    else:
        notice(f"job {job} is requeued; it is resumed automatically when SLURM restarts it")
