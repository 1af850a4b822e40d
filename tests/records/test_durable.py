"""A file system that syncs no folders is no reason not to write.

Some network and user-space file systems answer that they cannot sync a folder. Theirs is then the word on what a power cut
takes; a disk that fails to sync, though, must be heard.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from infl.records.files import sync_folder


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
    sync_folder(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_folder_that_fails_to_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    refuse_folders(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        sync_folder(tmp_path)
