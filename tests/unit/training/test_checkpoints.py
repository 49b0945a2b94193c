"""Files of checkpoints: where they are written, by whom they can be read, and on full disks."""

import errno
import fcntl
import os
import resource
import tempfile

import pytest
import torch

import unlabeled as ul
from unlabeled.errors import UserError
from unlabeled.training.checkpoints import checkpoint_file, write_state

OPTIONS = {"epochs": 1, "batch_size": 64, "progress": False, "logger": "none"}
OPTIONS |= {"encoder_args": {"width": 2}}


@pytest.fixture
def few(sprites):
    return sprites[0][:128, ::4, ::4]


def test_checkpoints_need_no_other_disk_and_others_can_read_them(few, tmp_path, monkeypatch):
    """Catches a detour by the folder of temporary files, which may be small; its mode is 0600."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    before = os.umask(0o022)
    try:
        run = ul.train("simclr", few, out=tmp_path / "run", **OPTIONS)
    finally:
        os.umask(before)
    assert (run.path / "last.ckpt").stat().st_mode & 0o777 == 0o644


def test_a_folder_may_be_called_like_an_address(few, tmp_path, monkeypatch):
    """Catches Lightning's reader, which downloads what begins with http."""
    monkeypatch.chdir(tmp_path)
    ul.train("simclr", few, out="http-1::a", **OPTIONS)
    ul.train("simclr", few, out="http-1::a", resume=True, **OPTIONS)


def test_a_full_disk_is_one_sentence(tmp_path):
    """Catches PyTorch's own error ("unexpected pos"), which hides that of the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # stands for the disk
    try:
        with pytest.raises(UserError, match="File too large"), checkpoint_file(tmp_path) as aside:
            write_state(aside, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_file_is_synced_as_windows_needs_it(tmp_path, monkeypatch):
    """Catches a file open for reading: "Bad file descriptor" there, so no checkpoint at all."""
    modes = []

    def fsync(number):
        modes.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr(os, "fsync", fsync)
    with checkpoint_file(tmp_path) as aside:
        write_state(aside, {})
    assert modes == [os.O_RDWR]
