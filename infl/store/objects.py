"""Objects under a URL, on S3, GCS or what else fsspec reaches: turns names into bytes, and its failures into errors of infl."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from infl.records import DiskError, InputError, first_line

WAITS = (
    2.0,
    10.0,
    30.0,
)  # seconds before what failed is tried again; s3fs and gcsfs have tried a few times at once by then
AT_ONCE = 16
MAX_OBJECTS = 1 << 20
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://[^/]")
_PACKAGES = {"s3": "infl[s3]", "s3a": "infl[s3]", "gs": "infl[gs]", "gcs": "infl[gs]"}
_TAGS = ("ETag", "etag", "generation", "md5Hash", "last_modified", "LastModified", "mtime", "created")
_LASTING = (FileNotFoundError, FileExistsError, PermissionError, ValueError, TypeError, NotImplementedError)
# What libraries raise where they find no credentials or a setting is wrong, by name: they need not be installed.
_MISTAKES = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound", "NoRegionError"),
    *("ParamValidationError", "DefaultCredentialsError", "RefreshError", "SSOError"),
}


@dataclass(frozen=True)
class Listed:
    """An object: its size in bytes, and a tag that is another one where its content was changed."""

    size: int
    tag: str


def is_url(place: Any) -> bool:
    """Whether a run lies on object storage, and not in a folder.

    Raises:
        InputError: where it looks like a URL and is none.

    Example:
        >>> is_url("s3://bucket/runs/mine"), is_url("runs/mine")
        (True, False)
    """
    text = str(place)
    if isinstance(place, Path):
        if re.match(r"[a-z][a-z0-9+.-]+:/(?=[^/])", text):
            raise InputError(f"{text}: a Path takes a slash out of a URL; give the URL as a string")
        return False
    if "://" in text and not _URL.match(text):
        raise InputError(f"{text}: expected a folder, or a URL as in s3://bucket/path or gs://bucket/path")
    return "://" in text


class Objects:
    """The objects whose names begin with a URL. They are named by what follows it.

    Every method raises DiskError where the storage cannot be reached or refuses in the end, and InputError where there is no
    such bucket, or it is not for this user.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        scheme = url.partition("://")[0]
        package = _PACKAGES.get(scheme, "the package that fsspec names for it")
        try:
            from fsspec.core import url_to_fs

            # Listings that fsspec remembers would hide what others write.
            self._fs, self._root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise InputError(
                f"{url} needs a package that is not installed ({error}): pip install '{package}'"
            ) from error
        except Exception as error:
            raise InputError(f"{url}: expected a URL as in s3://bucket/path: {first_line(error)}") from error

    def listed(self) -> dict[str, Listed]:
        """All objects, by name. What ends in a slash stands for a folder in some consoles, and is passed over."""
        with self._named("be listed"):
            found = self._fs.find(self._root, detail=True)
        if len(found) > MAX_OBJECTS:
            raise InputError(f"{self.url} holds {len(found):,} objects, more than any run")
        prefix = f"{self._root.rstrip('/')}/"
        objects = {}
        for path, info in found.items():
            if info["type"] == "directory":
                continue
            if not path.startswith(prefix):
                raise InputError(f"{self.url} is an object and not a place for a run; choose another URL")
            if not path.endswith("/"):
                objects[path[len(prefix) :]] = Listed(int(info["size"]), _tag(info))
        return objects

    def tag(self, name: str) -> str | None:
        """Of one object; None where there is none. It is asked once: a storage that is not there at all says so soon."""
        with suppress(FileNotFoundError), self._named("be read"):
            return _tag(self._fs.info(self._path(name)))
        return None

    def modified(self, name: str) -> datetime | None:
        """When an object was written, by the clock of the storage; None where there is none, or the storage does not say."""
        with suppress(FileNotFoundError, NotImplementedError), self._named("be read"):
            return self._patiently(lambda: self._fs.modified(self._path(name)))
        return None

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """Content of an object; None where there is none.

        Raises:
            DiskError: where it is larger.
        """
        with suppress(FileNotFoundError), self._named("be read"):
            if not self._patiently(lambda: self._fs.info(self._path(name))["size"]):
                return b""  # of which S3 gives no range
            content = self._patiently(lambda: self._fs.cat_file(self._path(name), start=0, end=max_bytes + 1))
            if len(content) > max_bytes:
                raise DiskError(
                    f"{self.url}/{name} holds more than {max_bytes:,} bytes, as infl writes none; restore it"
                )
            return content
        return None

    def write(self, name: str, content: bytes) -> str:
        """Put an object, whole or not at all; returns its tag."""
        with self._named("be written"):
            self._patiently(lambda: self._fs.pipe_file(self._path(name), content))
            return self._patiently(lambda: _tag(self._fs.info(self._path(name))))

    def create(self, name: str, content: bytes) -> bool:
        """Put an object where there is none; whether it is now this one.

        By a condition on the put, `If-None-Match: *` on S3 and `ifGenerationMatch=0` on GCS. A storage that knows none would
        overwrite, so it is looked before whether there is one, and afterwards whose it is.
        """
        with self._named("be written"):
            if self.read(name, len(content) + (1 << 16)) is not None:
                return False
            try:
                self._fs.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                pass  # an answer that was lost on its way is asked for again, and finds our own
            except OSError as error:
                # Of two conditional puts at once S3 may refuse either, with 409.
                if self.read(name, len(content) + (1 << 16)) is None:
                    raise error
        return self.read(name, len(content) + (1 << 16)) == content

    def delete(self, names: Iterable[str]) -> None:
        """Take objects away; those that are not there are passed over."""

        def one(name: str) -> None:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

        with self._named("be written"):
            self._all(names, one, lambda name, result: None)

    def upload(self, files: dict[str, Path], done: Callable[[str, str], None]) -> None:
        """Put files as objects; `done(name, tag)` is called after each."""

        def one(name: str) -> str:
            self._fs.put_file(str(files[name]), self._path(name))
            return _tag(self._fs.info(self._path(name)))

        with self._named("be written"):
            self._all(files, one, done)

    def download(self, files: dict[str, Path], done: Callable[[str, None], None]) -> None:
        """Give files the content of objects; `done(name, None)` is called after each.

        Raises:
            FileNotFoundError: where there is no such object any more.
        """
        with self._named("be read"):
            self._all(files, lambda name: self._fs.get_file(self._path(name), str(files[name])), done)

    def _all(self, names: Iterable[str], work: Callable[[str], Any], done: Callable[[str, Any], None]) -> None:
        """Work on all names, some at once. From the first failure on the rest waits, and is then tried again with it."""
        left = list(names)

        def some() -> None:
            stop = threading.Event()

            def one(name: str) -> Any:
                if stop.is_set():
                    raise CancelledError
                try:
                    return work(name)
                except BaseException:
                    stop.set()
                    raise

            with ThreadPoolExecutor(AT_ONCE) as pool:
                try:
                    # Begun in this order, so that the failure itself is met before those that it stopped.
                    for name, future in {name: pool.submit(one, name) for name in left}.items():
                        done(name, future.result())
                        left.remove(name)
                finally:
                    stop.set()

        self._patiently(some)

    def _patiently(self, work: Callable[[], Any]) -> Any:
        for wait in WAITS:
            try:
                return work()
            except _LASTING:
                raise
            except Exception as error:
                if _is_mistake(error):
                    raise
                time.sleep(wait)
        return work()

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (InputError, FileExistsError):
            raise
        except FileNotFoundError as error:
            if what == "be read":
                raise
            raise InputError(f"{self.url} cannot {what}: no such bucket ({first_line(error)})") from error
        except Exception as error:
            if _is_mistake(error):
                raise InputError(
                    f"{self.url} cannot {what}: {first_line(error)}; credentials and endpoint are those that fsspec finds, for "
                    "s3:// as boto3 does, for gs:// as Google's libraries do"
                ) from error
            raise DiskError(
                f"{self.url} cannot {what}: {first_line(error)}; what is complete is kept, run the same command again"
            ) from error


def _tag(info: dict[str, Any]) -> str:
    for name in _TAGS:
        if info.get(name):
            value = info[name]
            return str(value.timestamp() if isinstance(value, datetime) else value)
    raise InputError("this storage does not say when an object was changed, so no run can be kept on it; take another")


def _is_mistake(error: Exception) -> bool:
    """Whether trying again would end in the same, and not for a fault of the storage."""
    names = {one.__name__ for one in type(error).__mro__}
    refused = str(error).startswith("Forbidden") or getattr(error, "code", None) in (401, 403)  # gcsfs
    return isinstance(error, PermissionError | ValueError) or bool(names & _MISTAKES) or refused
