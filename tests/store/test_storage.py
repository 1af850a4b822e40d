"""A run on object storage is the run that a folder would hold, whoever kills whom, and from whatever machine it is looked at.

Two machines see each other's work through the storage alone, so an object must be there whole or not at all, and stay what it
was. The storage is a real S3 server of this machine; machines are cache folders, since all else that one has lies there.
"""

from __future__ import annotations

import logging
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from moto.server import ThreadedMotoServer

import infl
from infl.__main__ import main
from infl.pipeline.train import repair
from infl.records import DiskError, InputError
from infl.store import is_url, storage
from infl.store.storage import Storage
from tests.blocks import assert_same_outcomes

SMALL: dict[str, Any] = {
    "n_models": 6,
    "n_references": 2,
    "algorithm": infl.Algorithm(hidden=(4,), epochs=1),
    "layout": infl.Layout(n_devices=1, models_per_device=2),
    "quiet": True,
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Where an S3 server of this machine listens; it holds one bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        import boto3

        boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="bucket")
        yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a run that is not there yet."""
    monkeypatch.setitem(storage.RETRIES, "max_retries", 0)
    return f"s3://bucket/{uuid.uuid4().hex}/run"


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "disk" else request.getfixturevalue("url")


def test_what_is_put_is_read_by_name_in_parts_and_listed(place: str) -> None:
    objects = Storage(place)
    assert (objects.list(), objects.names(), objects.read("a/b", 9)) == ({}, set(), None)
    assert objects.put("a/b.bin", bytes(range(100)))
    assert objects.put("a/c", b"")
    assert objects.read("a/b.bin", 100) == bytes(range(100))
    assert [bytes(part) for part in objects.ranges("a/b.bin", [3, 90], [2, 10])] == [b"\x03\x04", bytes(range(90, 100))]
    assert Storage(place).list("a/") == {"a/b.bin": 100, "a/c": 0}
    assert objects.names() == {"a"}
    with pytest.raises(DiskError, match="a/b.bin holds more than 99 bytes"):
        objects.read("a/b.bin", 99)
    objects.delete(["a/b.bin", "gone"])
    assert objects.list() == {"a/c": 0}


def test_an_object_is_put_once_whoever_is_quicker(place: str) -> None:
    outcomes: list[tuple[int, bool]] = []
    writers = [
        threading.Thread(target=lambda k=k: outcomes.append((k, Storage(place).put("x", bytes([k]) * 1000))))
        for k in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    (winner,) = [k for k, put in outcomes if put]
    assert Storage(place).read("x", 1000) == bytes([winner]) * 1000
    assert list(Storage(place).list()) == ["x"]


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> infl.Run:
    """To be read; a copy of its folder may be changed."""
    data = infl.load("digits", n_train=60, n_held_out=30)
    return infl.train(data, run=tmp_path_factory.mktemp("disk") / "run", **SMALL)


def test_a_run_is_the_same_on_storage_as_on_disk(
    url: str, on_disk: infl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same_outcomes(infl.train(on_disk.dataset(), run=url, **SMALL), on_disk)
    monkeypatch.setenv("INFL_CACHE_DIR", str(tmp_path / "another machine"))
    folder = Path(shutil.copytree(on_disk.folder, tmp_path / "run"))
    for place in (folder, url):
        infl.verify(place, {"mine": [1, 2]}, n_models=2, stop=None, layout=SMALL["layout"], quiet=True)
    run, copy = infl.open_run(url), infl.open_run(folder)
    assert_same_outcomes(run, copy)
    assert run.forget_sets() == copy.forget_sets()
    assert run.dataset().fingerprint() == copy.dataset().fingerprint()
    assert (run.place, copy.place) == (url, str(folder))
    assert_same_outcomes(infl.merge(f"{url}-merged", [url, folder]), copy)


def test_a_block_that_the_storage_changed_is_named_and_trained_again(
    url: str, on_disk: infl.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run = infl.train(on_disk.dataset(), run=url, **SMALL)
    name = next(name for name in run.storage.list("collections/design/") if name.endswith(".npz"))
    content = bytearray(run.storage.read(name, 1 << 30) or b"")
    content[len(content) // 2] ^= 1
    obstore.put(run.storage._opened(), name, bytes(content))
    assert main(["inspect", "--run", url]) == 3
    assert "damaged: design: block of models 0 to 1: " in capsys.readouterr().out
    assert repair(url, layout=SMALL["layout"], quiet=True) == {"design": [0, 1]}
    assert_same_outcomes(infl.open_run(url), on_disk)


def test_a_machine_that_is_lost_takes_no_model_with_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """No program catches it."""

    data, write, blocks = infl.load("digits", n_train=60, n_held_out=30), infl.Run.write, []

    def killing(*given: Any, **settings: Any) -> None:
        write(*given, **settings)
        blocks.append(given)
        if len(blocks) == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(infl.Run, "write", killing)
        with pytest.raises(Killed):
            infl.train(data, run=url, **SMALL)
    before = Storage(url).list("collections/")
    assert sum(name.endswith(".npz") for name in before) == 3
    modified = {meta["path"]: meta["last_modified"] for part in obstore.list(Storage(url)._opened()) for meta in part}
    run = infl.train(data, run=url, **SMALL)
    after = {meta["path"]: meta["last_modified"] for part in obstore.list(run.storage._opened()) for meta in part}
    assert {name: after[name] for name in before} == {name: modified[name] for name in before}
    assert {name: len(run.complete(name)) for name in run.collections()} == {"design": 3, "grouped": 3, "full": 2}


def test_a_storage_that_fails_is_one_line_and_the_same_command_goes_on(url: str, server: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        with pytest.raises(DiskError, match=f"{url} cannot be read: .*run the same command again") as refused:
            infl.open_run(url)
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="is not a run folder"):
        infl.open_run(url)
    nowhere = url.replace("bucket", "nowhere")
    with pytest.raises(InputError, match="no such bucket"):
        infl.train(infl.load("digits", n_train=60, n_held_out=30), run=nowhere, **SMALL)


def test_a_place_of_other_things_is_left_alone(place: str) -> None:
    objects = Storage(place)
    objects.put("data/mine.npz", b"precious")
    with pytest.raises(InputError, match="exists and is not a run of infl"):
        infl.train(infl.load("digits", n_train=60, n_held_out=30), run=place, **SMALL)
    assert objects.list() == {"data/mine.npz": 8}


def test_what_looks_like_a_url_and_is_none_is_named(tmp_path: Path) -> None:
    for text in ("ftp://host/run", "s3://", "http://x"):
        with pytest.raises(InputError, match="expected a folder, or a URL as in s3://bucket/path"):
            is_url(text)
    with pytest.raises(InputError, match="a Path takes a slash out of a URL"):
        is_url(Path("s3://bucket/run"))
    assert Storage(f"file://{tmp_path}/run").folder == tmp_path / "run"  # a file URL is a folder
    assert not is_url(f"file://{tmp_path}")
