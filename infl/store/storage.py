"""Where a run lies: turns a folder, or a URL on S3 or GCS, into named objects that are put once, whole or not at all.

Disk and object storage are one interface (obstore). What differs is here: on a disk an object is synced, and then its name.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, from_url

from infl.records import DiskError, InputError, first_line
from infl.records.files import cache_folder, sync_folder

PARTIAL = ".partial-"  # within the name of an object that is being put on a disk
RETRIES: Any = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
COALESCE = 1 << 16  # bytes between two ranges that are read in one request
_URL = re.compile(r"(s3|s3a|gs|gcs|memory)://[^/]")


class Storage:
    """The objects of one run, by name: `run.json`, `collections/full/blocks/0000000-0000031.npz`.

    Attributes:
        place: The folder or URL.
        folder: Where this machine keeps what belongs to the run and is no part of it (pages, figures, checkpoints, weights):
            the run folder itself, or one in the user's cache where the run is on object storage.
    """

    def __init__(self, place: str | Path) -> None:
        text = str(place).removeprefix("file://") if isinstance(place, str) else str(place)
        self.is_local = not is_url(place)
        self.place = text.rstrip("/") if not self.is_local else text
        self.folder = (
            Path(text) if self.is_local else cache_folder() / "runs" / re.sub(r"[^A-Za-z0-9.-]+", "_", self.place)
        )
        self._store: Any = None

    def put(self, name: str, content: bytes) -> bool:
        """Put an object where there is none. Returns whether it is this one; it is on disk before its name is."""
        with self._named("written"):
            store = self._opened(make=True)
            try:
                if not self.is_local:
                    obstore.put(store, name, content, mode="create", use_multipart=False)
                    return True
                partial = f"{name}{PARTIAL}{uuid.uuid4().hex[:8]}"
                try:
                    obstore.put(store, partial, content, use_multipart=False)
                    with open(self.folder / partial, "rb") as file:
                        os.fsync(file.fileno())
                    obstore.rename(store, partial, name, overwrite=False)
                finally:
                    (self.folder / partial).unlink(missing_ok=True)
                for parent in (self.folder / name).parents[: name.count("/") + 2]:
                    sync_folder(parent)
                return True
            except AlreadyExistsError:
                return False

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Content of an object; None where there is none."""
        with self._named("read"), suppress(FileNotFoundError):
            found = obstore.get(self._opened(), name)
            if found.meta["size"] > max_bytes:
                raise DiskError(
                    f"{self.place}/{name} holds more than {max_bytes:,} bytes, as infl writes none; restore it"
                )
            return bytes(found.bytes())
        return None

    def ranges(self, name: str, starts: Sequence[int], lengths: Sequence[int]) -> list[memoryview]:
        """Some parts of an object.

        Raises:
            FileNotFoundError: Where it is gone.
            DiskError: Where it cannot be read.
        """
        with self._named("read"):
            store = self._opened()
            read = obstore.get_ranges(store, name, starts=starts, lengths=lengths, coalesce=COALESCE)
            return [memoryview(one) for one in read]

    def list(self, prefix: str = "") -> dict[str, int]:
        """Names of all objects below a prefix that ends at a slash, ascending, and their sizes."""
        with self._named("listed"), suppress(FileNotFoundError):
            found = obstore.list(self._opened(), prefix.rstrip("/") or None)
            sizes = {str(meta["path"]): int(meta["size"]) for part in found for meta in part}
            return {
                name: size for name, size in sorted(sizes.items()) if PARTIAL not in name and name.startswith(prefix)
            }
        return {}

    def delete_partial(self) -> None:
        """Take away what kills left of objects that were being put; those of the last hour may still become some."""
        for path in self.folder.glob(f"collections/*/blocks/*{PARTIAL}*") if self.is_local else ():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > 3600:
                    path.unlink()

    def names(self) -> set[str]:
        """What there is at the top: first parts of names."""
        if self.is_local:
            names = os.listdir(self.folder) if self.folder.is_dir() else []
            return {name for name in names if PARTIAL not in name}
        return {name.partition("/")[0] for name in self.list()}

    def delete(self, names: Iterable[str]) -> None:
        """Take objects away; those that are gone are skipped."""
        with self._named("written"):
            for name in names:
                with suppress(FileNotFoundError):
                    obstore.delete(self._opened(), name)

    def _opened(self, *, make: bool = False) -> Any:
        if self._store is None and self.is_local:
            if not (make or self.folder.is_dir()):
                raise FileNotFoundError(self.place)
            self._store = LocalStore(self.folder, mkdir=True, automatic_cleanup=True)
        elif self._store is None:
            options: Any = {"allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")}
            self._store = from_url(self.place, client_options=options, retry_config=RETRIES)
        return self._store

    @contextmanager
    def _named(self, action: str) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except FileNotFoundError as error:
            if action == "read":
                raise
            raise InputError(
                f"{self.place} cannot be {action}: no such bucket or folder ({first_line(error)})"
            ) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise InputError(
                f"{self.place} cannot be {action}: {first_line(error)}; credentials and endpoint are those of the environment "
                "(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...)"
            ) from error
        except (BaseError, OSError, ValueError) as error:
            if "404 Not Found" in str(error):
                raise InputError(f"{self.place} cannot be {action}: no such bucket") from error
            reason = f"{self.place} cannot be {action}: {first_line(error)}"
            raise DiskError(f"{reason}; what is complete is kept, run the same command again") from error


def is_url(place: Any) -> bool:
    """Whether a run lies on object storage, and not in a folder."""
    text = str(place)
    if isinstance(place, Path):
        if re.match(r"[a-z][a-z0-9+.-]+:/(?=[^/])", text):
            raise InputError(f"{text}: a Path takes a slash out of a URL; give the URL as a string")
        return False
    if "://" not in text or text.startswith("file://"):
        return False
    if not _URL.match(text):
        raise InputError(f"{text}: expected a folder, or a URL as in s3://bucket/path or gs://bucket/path")
    return True
