"""A file system that syncs no folders is no reason not to write.

Some network and user-space file systems answer that they cannot sync a folder. Theirs is then the word on what a power cut
takes; a disk that fails to sync, though, must be heard.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from infl.records.files import sync_folder


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO, errno.ENOSPC])
def test_a_folder_that_cannot_be_synced_is_written_to_and_one_that_fails_to_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fsync

    def refusing(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        real(file)

    monkeypatch.setattr(os, "fsync", refusing)
    fails = number in (errno.EIO, errno.ENOSPC)
    with pytest.raises(OSError, match=os.strerror(number)) if fails else nullcontext():
        sync_folder(tmp_path)
