"""A write leaves the old content or the new, whole; and a file system that syncs no folders is no reason not to write.

Some network and user-space file systems answer that they cannot sync a folder. Theirs is then the word on what a power cut
takes; a disk that fails to sync, though, must be heard.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from infl.records.files import make_folder, write_durably


def refuse_folders(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    real = os.fsync

    def refusing(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        real(file)

    monkeypatch.setattr(os, "fsync", refusing)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_folders_that_cannot_be_synced_are_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse_folders(monkeypatch, number)
    make_folder(tmp_path / "a" / "b")
    write_durably(tmp_path / "a" / "b" / "file", b"new")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_folder_that_fails_to_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    refuse_folders(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_durably(tmp_path / "file", b"new")


def test_content_that_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def failing(file) -> None:
        file.write(b"half of the n")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        write_durably(tmp_path / "file", failing)
    assert (tmp_path / "file").read_bytes() == b"old"
