"""A run on object storage is the run that a folder would hold, whoever kills whom, and from whatever machine it is looked at.

Storage has no appending and no locks, and two machines see each other's work through it alone. So the order in which objects
are put decides what a reader may believe: here a writer is killed before each single operation on the storage, and writes
between any two of a reader's. The storage is a real S3 server of this machine; machines are cache folders, since all that one
knows of a run lies there.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.registry import _registry
from moto.core.authorization import ActionAuthenticatorMixin
from moto.server import ThreadedMotoServer

import infl
import infl.pipeline.train
from infl.__main__ import main
from infl.cli import Import
from infl.cli.options import check_outputs
from infl.records import DiskError, InputError, LockedError, Outcomes
from infl.store import create_run, is_run, objects, remote, remote_lock
from infl.store.lock import identity
from infl.store.objects import Objects
from infl.store.places import most_bytes_of

N, M = 9, 4
SETTINGS = {"algorithm": {"network": {"name": "mlp"}}, "design": {"fraction": 0.7}, "seed": 0}
DATA = infl.from_arrays(np.random.RandomState(0).rand(N, 2), np.arange(N) % 2, np.ones((M, 2)), np.arange(M) % 2)
SMALL: dict[str, Any] = {
    "n_references": 2,
    "design": infl.Design("uniform", 0.7),
    "algorithm": infl.Algorithm(hidden=(4,), epochs=1),
    "layout": infl.Layout(n_devices=1, models_per_device=2),
    "quiet": True,
}
On = Callable[[str], None]


class Killed(BaseException):
    """No program catches it."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Where an S3 server of this machine listens; it holds one bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ACCESS_KEY_ID": "key",
            "SECRET_ACCESS_KEY": "secret",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(f"AWS_{name}", value)
        host, port = moto.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        # A process may come to this module twice, when it takes over another's tests; buckets outlive their server.
        storage().makedirs("bucket", exist_ok=True)
        yield f"http://{host}:{port}"
        # Connections are closed while there is a server, and not in the middle of another test.
        remote._remotes.clear()
        type(storage()).clear_instance_cache()
        gc.collect()
    moto.stop()


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a run that is not there yet. Blocks are published at once, and nothing is waited for."""
    monkeypatch.setattr(remote, "PUBLISH_EVERY", 0.0)
    monkeypatch.setattr(objects, "WAITS", (0.0, 0.0, 0.0))
    return f"s3://bucket/{uuid.uuid4().hex}/run"


@pytest.fixture
def near(url: str) -> str:
    """One in this process's memory: quicker, where all operations are gone through."""
    return url.replace("s3://", "memory://")


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> On:
    """Be on a machine of that name from now on."""

    def be(name: str) -> None:
        monkeypatch.setenv("INFL_CACHE_DIR", str(tmp_path / name))

    be("here")
    return be


def storage(url: str = "s3://") -> Any:
    return fsspec.filesystem(url.partition("://")[0], use_listings_cache=False)


def forget_process() -> None:
    """What a process knows goes with it."""
    remote_lock._tokens.clear()
    remote._remotes.clear()


def stored(run: infl.Run) -> Any:
    """What fsspec reaches the storage of a run by."""
    assert run._remote is not None
    return run._remote.objects._fs


def names(url: str) -> list[str]:
    place = url.partition("://")[2]
    return sorted(path.lstrip("/").removeprefix(f"{place}/") for path in storage(url).find(url))


def outcomes_of(models: range) -> Outcomes:
    random = [np.random.RandomState(model) for model in models]
    masks, margin = (np.array([one.randn(width) for one in random]) for width in (N, N + M))
    return Outcomes(masks > 0, margin > 0, margin)


def write(run: infl.Run, models: range, collection: str = "design") -> None:
    run.write(collection, list(models), outcomes_of(models), np.ones(len(models), bool), seconds=1.0)


def assert_holds(url: str | infl.Run, models: range, collection: str = "design") -> infl.Run:
    run = url if isinstance(url, infl.Run) else infl.open_run(url)
    assert run.complete(collection) == [*models]
    assert not run.find_damage().blocks
    if models:
        read, written = run.outcomes(collection).load(), outcomes_of(models)
        assert read.margin is not None
        assert written.margin is not None
        np.testing.assert_array_equal(read.masks, written.masks)
        np.testing.assert_array_equal(read.margin, written.margin.astype(np.float16))
    return run


def count_operations(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None]) -> None:
    """Call before(k) before the k-th operation on the storage."""
    n = 0

    def counted(name: str) -> None:
        plain = getattr(Objects, name)

        def method(self: Objects, *arguments: Any, **more: Any) -> Any:
            nonlocal n
            n += 1
            before(n)
            return plain(self, *arguments, **more)

        monkeypatch.setattr(Objects, name, method)

    for name in ("listed", "tag", "read", "write", "create", "delete", "upload", "download"):
        counted(name)


def test_a_run_on_storage_is_that_of_a_folder_bit_for_bit(url: str, on: On, tmp_path: Path) -> None:
    data = infl.load("digits", n_train=60, n_held_out=30)
    folder = infl.train(data, run=tmp_path / "run", n_models=6, **SMALL)
    infl.train(data, run=url, n_models=4, **SMALL)
    on("there")
    opened = infl.open_run(url)
    assert opened.dataset().fingerprint() == data.fingerprint()
    grown = infl.train(run=url, n_models=6, **SMALL)
    on("here")
    for run in (grown, infl.open_run(url), infl.open_run(infl.open_run(url).folder)):
        for collection in ("design", "full"):
            mine, theirs = run.outcomes(collection).load(), folder.outcomes(collection).load()
            for name in ("masks", "correct", "margin"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    assert [name for name in names(url) if "lock" in name or "partial" in name] == []
    assert infl.open_run(url).to_dict()["folder"] == url


def test_weights_are_published_and_fetched_whole(near: str, on: On) -> None:
    run = create_run(near, DATA, SETTINGS)
    files = {
        f"weights/full/{model}/{name}" for model in (0, 1) for name in ("_METADATA", "_CHECKPOINT_METADATA", "d/0a")
    }
    with run.lock():
        for name in files:
            (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (run.folder / name).write_text(name)
    assert files < {*names(near)}
    storage(near).rm_file(f"{near}/weights/full/1/_CHECKPOINT_METADATA")  # which is put last
    on("there")
    folder = infl.open_run(near).folder
    assert {str(path.relative_to(folder)) for path in (folder / "weights").rglob("*") if path.is_file()} == {
        name for name in files if "/0/" in name
    }


def test_whatever_a_writer_is_killed_before_no_reader_is_misled_and_no_model_lost(
    near: str, on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(create_run(near, DATA, SETTINGS), range(4))
    done = 4
    for step in range(1, 100):
        on("here")
        run = infl.open_run(near)
        with monkeypatch.context() as patch:

            def kill(n: int, step: int = step) -> None:
                if n >= step:
                    raise Killed

            count_operations(patch, kill)
            try:
                write(run, range(done, done + 1))
                killed = False
            except Killed:
                killed = True
        forget_process()
        with suppress(FileNotFoundError):
            storage(near).rm_file(f"{near}/run.lock")  # as stale: nobody holds it
        written = len(infl.open_run(near).complete("design"))
        assert written in (done, done + 1)
        on("there")
        seen = len(infl.open_run(near).complete("design"))
        assert seen in (done, written)
        assert_holds(near, range(seen))
        on("here")
        with assert_holds(near, range(written)).lock():
            pass  # publishes
        on("there")
        assert_holds(near, range(written))
        done = written
        if not killed:
            break
    else:
        pytest.fail("never written without a kill")
    assert step > 10
    assert done > 6  # some were killed after they were on this disk


def test_a_run_that_is_killed_while_it_is_made_is_made_anew(near: str, on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(1, 40, 2):
        with monkeypatch.context() as patch:

            def kill(n: int, step: int = step) -> None:
                if n >= step:
                    raise Killed

            count_operations(patch, kill)
            try:
                create_run(f"{near}-{step}", DATA, SETTINGS)
                killed = False
            except Killed:
                killed = True
        forget_process()
        on("there")
        if is_run(f"{near}-{step}"):
            assert_holds(f"{near}-{step}", range(0))
        write(create_run(f"{near}-{step}", DATA, SETTINGS), range(1))
        assert names(f"{near}-{step}")[:2] == ["data.npz", "journal.jsonl"]
        on("here")
        assert_holds(f"{near}-{step}", range(1))
        if not killed:
            return
    pytest.fail("never made without a kill")


def test_a_reader_finds_all_that_the_journal_names_while_another_publishes(
    near: str, on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, n = create_run(near, DATA, SETTINGS), 0
    reading = False

    def publish(_: int) -> None:
        nonlocal n, reading
        if reading:
            reading = False
            on("here")
            write(run, range(n, n + 1), "grouped")
            on("there")
            n, reading = n + 1, True

    count_operations(monkeypatch, publish)
    for _ in range(3):
        on("there")
        reading = True
        seen = infl.open_run(near)
        reading = False
        assert 0 < len(seen.complete("grouped")) <= n
        assert_holds(seen, range(len(seen.complete("grouped"))), "grouped")
    assert n > 8


def test_models_that_were_not_published_are_not_trained_again(
    url: str, on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = infl.load("digits", n_train=60, n_held_out=30)
    infl.train(data, run=url, n_models=2, **SMALL)
    with monkeypatch.context() as patch:
        published = []

        def kill(self: remote.Remote) -> None:
            published.append(self.url)
            if len(published) > 2:  # its session, and the first of its blocks
                raise Killed
            self.publish()

        patch.setattr(remote.Remote, "publish_soon", kill)
        patch.setattr(Objects, "delete", lambda self, names: None)
        with pytest.raises(Killed):
            infl.train(data, run=url, n_models=6, **SMALL)
    assert infl.open_run(url).complete("design") == [0, 1, 2, 3, 4, 5]
    forget_process()
    monkeypatch.setattr(infl.pipeline.train, "make_trainer", lambda *_: pytest.fail("trained again"))
    infl.train(run=url, n_models=6, n_references=2, quiet=True)
    on("there")
    run = infl.open_run(url)
    assert sorted(model for block in run.blocks for model in block["models"] if block["collection"] == "design") == [
        *range(6)
    ]


@pytest.mark.usefixtures("on")
def test_an_upload_that_fails_twice_is_tried_a_third_time(url: str, on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(url, DATA, SETTINGS)
    reached = stored(run)
    put, n_failed = reached.put_file, 0

    def failing(*arguments: Any, **more: Any) -> Any:
        nonlocal n_failed
        if n_failed < 2:
            n_failed += 1
            raise OSError("the network is down")
        return put(*arguments, **more)

    monkeypatch.setattr(reached, "put_file", failing)
    monkeypatch.setattr(objects, "AT_ONCE", 1)
    write(run, range(3))
    assert n_failed == 2
    on("there")
    assert_holds(url, range(3))


def test_an_upload_that_always_fails_keeps_the_models_for_the_next_call(
    url: str, on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(url, DATA, SETTINGS)
    with monkeypatch.context() as patch:
        tried = []

        def failing(*paths: Any) -> None:
            tried.append(paths)
            raise OSError("the network is down")

        patch.setattr(stored(run), "put_file", failing)
        patch.setattr(objects, "AT_ONCE", 1)
        with pytest.raises(
            DiskError, match=f"{url} cannot be written: the network is down; what is complete is kept"
        ) as one:
            write(run, range(3))
    assert one.value.exit_status == 3
    assert len({paths[0] for paths in tried}) == 1  # the others wait
    assert len(tried) == 1 + len(objects.WAITS)
    assert_holds(url, range(3))
    on("there")
    assert_holds(url, range(0))
    on("here")
    write(run, range(3, 4))
    on("there")
    assert_holds(url, range(4))


def test_the_storage_is_right_where_a_copy_says_other_things(near: str, on: On) -> None:
    write(create_run(near, DATA, SETTINGS), range(2))
    on("there")
    run = infl.open_run(near)
    with open(run.folder / "journal.jsonl", "ab") as file:  # of a block that the storage will never have
        file.write(b"another\tline\n")
    on("here")
    write(infl.open_run(near), range(2, 5))
    on("there")
    assert_holds(near, range(5))
    storage(near).rm(near, recursive=True)
    assert not is_run(near)
    other = infl.from_arrays(np.zeros((N, 2)), np.arange(N) % 2, np.ones((M, 2)), np.arange(M) % 2)
    create_run(near, other, SETTINGS)
    on("here")  # where the journal goes on from the empty one, and is that of another run
    run = assert_holds(near, range(0))
    assert run.dataset().fingerprint() == other.fingerprint()
    write(run, range(1))
    on("there")
    assert_holds(near, range(1))


def test_models_of_a_run_that_was_made_anew_do_not_come_into_it(
    near: str, on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(near, DATA, SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(remote.Remote, "publish", lambda self: None)
        write(run, range(3))
    storage(near).rm(near, recursive=True)
    on("there")
    other = infl.from_arrays(np.zeros((N, 2)), np.arange(N) % 2, np.ones((M, 2)), np.arange(M) % 2)
    create_run(near, other, SETTINGS)
    on("here")
    with pytest.raises(InputError, match="was deleted or made anew by another process: open it again"):
        write(run, range(3, 4))
    assert assert_holds(near, range(0)).dataset().fingerprint() == other.fingerprint()


def test_a_copy_that_its_disk_changed_is_fetched_anew(near: str, on: On) -> None:
    run = create_run(near, DATA, SETTINGS)
    write(run, range(3))
    chunk = run.folder / "models/design/margin/c/0/0"
    content, times = chunk.read_bytes(), chunk.stat()
    chunk.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DiskError, match="is damaged"):
        infl.open_run(near).outcomes("design").load()
    assert_holds(near, range(3))
    assert chunk.read_bytes() == content


def test_a_repaired_block_is_put_again(url: str, on: On) -> None:
    data = infl.load("digits", n_train=60, n_held_out=30)
    before = infl.train(data, run=url, n_models=4, **SMALL).outcomes("design").load()
    storage().pipe_file(f"{url}/models/design/masks/c/0/0", b"no chunk")
    on("there")
    assert main(["inspect", "--run", url]) == 3
    assert infl.repair(url, layout=SMALL["layout"], quiet=True).trained == {"design": [0, 1, 2, 3]}
    on("here")
    after = infl.open_run(url)
    assert not after.find_damage().blocks
    np.testing.assert_array_equal(after.outcomes("design").load().margin, before.margin)


def test_what_is_taken_out_of_a_run_is_taken_from_the_storage(near: str, on: On) -> None:
    """A chunk that cannot be read would keep others from writing rows into it."""
    write(create_run(near, DATA, SETTINGS), range(3))
    storage(near).pipe_file(f"{near}/models/design/margin/c/0/0", b"no chunk")
    on("there")
    assert infl.open_run(near).drop_damage() == {"design": [0, 1, 2]}
    assert "models/design/margin/c/0/0" not in names(near)
    on("here")
    write(assert_holds(near, range(0)), range(2))
    on("there")
    assert_holds(near, range(2))


def test_a_deleted_working_copy_takes_nothing_from_the_storage(near: str, on: On) -> None:
    run = create_run(near, DATA, SETTINGS)
    write(run, range(3))
    with run.lock():
        (run.folder / "models/design/masks/c/0/0").unlink()
    with pytest.raises(DiskError, match="was changed by another program: delete"), run.lock():
        (run.folder / "journal.jsonl").write_bytes(b"")
    on("there")
    assert_holds(near, range(3))


def test_shards_on_storage_are_merged_there(near: str, on: On, tmp_path: Path) -> None:
    for number, place in enumerate((f"{near}-0", str(tmp_path / "shard"))):
        write(create_run(place, DATA, SETTINGS), range(2 * number, 2 * number + 2))
    assert infl.merge(near, [f"{near}-0", tmp_path / "shard"]).place == near
    on("there")
    assert_holds(near, range(4))


def test_outcomes_are_imported_to_storage(near: str, on: On, tmp_path: Path) -> None:
    made = outcomes_of(range(5))
    assert made.margin is not None
    np.savez(
        tmp_path / "mine.npz", masks=made.masks, margin=made.margin.astype(np.float16), labels=np.arange(N + M) % 2
    )
    assert infl.import_outcomes(tmp_path / "mine.npz", run=near).place == near
    on("there")
    np.testing.assert_array_equal(infl.open_run(near).outcomes("design").load().masks, made.masks)


def test_other_storages_do_as_well(on: On) -> None:
    """All that is asked of one is put, get, list and a put that fails where there is an object."""
    url = f"memory://{uuid.uuid4().hex}/run"
    run = create_run(url, DATA, SETTINGS)
    write(run, range(2))
    on("there")
    with run.lock(), pytest.raises(LockedError), infl.open_run(url).lock():
        pass
    write(assert_holds(url, range(2)), range(2, 3))
    on("here")
    assert_holds(url, range(3))


def test_a_name_that_leads_elsewhere_is_refused(url: str, on: On, tmp_path: Path) -> None:
    create_run(url, DATA, SETTINGS)
    on("there")
    for name in ("../outside", "models/../../outside", "/etc/outside", "groups//x.npz", "models/."):
        storage().pipe_file(f"{url}/{name}", b"x")
        with pytest.raises(InputError, match="is no name of a file in a run: it leads elsewhere"):
            infl.open_run(url)
        storage().rm_file(f"{url}/{name}")
    assert infl.open_run(url).collections() == []
    assert not [path for path in tmp_path.rglob("*") if path.name in ("outside", "x.npz")]


@pytest.mark.parametrize("name", ["..", "a\nb", "a\\b", "a\0", "/run.json", ""])
def test_so_are_names_that_not_every_storage_has(name: str) -> None:
    with pytest.raises(InputError, match="leads elsewhere"):
        most_bytes_of(name)


def test_what_is_no_part_of_a_run_is_left_alone(url: str, on: On) -> None:
    write(create_run(url, DATA, SETTINGS), range(2))
    others = [
        "README.md",
        "models/evil.py",
        "models/design/masks/c/0/0.exe",
        "weights/full/0/half",
        "figures/a.png",
        "groups/",
    ]
    for name in others:
        storage().pipe_file(f"{url}/{name}", b"x")
    on("there")
    run = assert_holds(url, range(2))
    assert not [name for name in others if (run.folder / name).is_file()]
    assert {*others} - {"groups/"} <= {*names(url)}
    storage().pipe_file(f"{url}/models/design/masks/zarr.json", b" " * (1 << 17))
    with pytest.raises(InputError, match="zarr.json holds 131,072 bytes, more than infl writes there"):
        infl.open_run(url)


def test_a_second_writer_is_refused_and_the_first_named(url: str, on: On) -> None:
    run = create_run(url, DATA, SETTINGS)
    with run.lock(), run.lock():
        on("there")
        other = infl.open_run(url)
        with pytest.raises(
            LockedError, match=f"run {url} is being written by process {os.getpid()} on host"
        ) as refused:
            write(other, range(1))
        assert refused.value.exit_status == 4
        on("here")
        write(run, range(2))
        on("there")
        assert_holds(url, range(2))  # readers are not kept out
    write(other, range(2, 3))
    on("here")
    assert_holds(url, range(3))


@pytest.fixture
def quick_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HEARTBEAT": 0.02, "STALE_AFTER": 0.0, "WATCHED": 0.3}.items():
        monkeypatch.setattr(remote_lock, name, value)


def lock_of(**changed: Any) -> bytes:
    return json.dumps({**identity("theirs"), "beat": 7, **changed}).encode()


@pytest.mark.usefixtures("quick_locks", "on")
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lock_of(host="elsewhere"), id="of a machine that is gone"),
        pytest.param(lock_of(pid=(1 << 22) - 1), id="of a process that is gone"),
        pytest.param(lock_of(), id="left behind by this process"),
        *(b"", b"[" * 3000, b"{}"),
    ],
)
def test_a_stale_lock_is_taken_over(near: str, content: bytes) -> None:
    storage(near).pipe_file(f"{near}/run.lock", content)
    run = create_run(near, DATA, SETTINGS)
    with run.lock():
        assert json.loads(storage(near).cat_file(f"{near}/run.lock"))["pid"] == os.getpid()
    assert not [name for name in names(near) if "lock" in name]


@pytest.mark.usefixtures("quick_locks", "on")
def test_a_lock_of_another_machine_that_is_renewed_is_kept(near: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_lock, "WATCHED", 20.0)  # it is not watched on once it was seen to change
    there = Objects(near)
    with remote_lock.lock_remotely(there) as held:
        held.token = "theirs"  # and the machine another one
        there.write("run.lock", lock_of(host="elsewhere"))
        done = threading.Event()

        def beat() -> None:
            n = 0
            while not done.wait(0.02):
                n += 1
                there.write("run.lock", lock_of(host="elsewhere", beat=n))

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            with (
                pytest.raises(LockedError, match="process .* on host elsewhere"),
                remote_lock.lock_remotely(Objects(near)),
            ):
                pass
        finally:
            done.set()
            thread.join()


@pytest.mark.usefixtures("on")
def test_a_young_lock_of_another_machine_is_not_even_watched(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage().pipe_file(f"{url}/run.lock", lock_of(host="elsewhere"))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(LockedError, match=f"on host elsewhere: .* delete {url}/run.lock"):
        create_run(url, DATA, SETTINGS)


@pytest.mark.usefixtures("quick_locks", "on")
def test_of_many_that_take_a_stale_lock_one_has_it_at_a_time(url: str) -> None:
    storage().pipe_file(f"{url}/run.lock", lock_of(host="elsewhere"))
    inside, most, got = 0, 0, []

    def take() -> None:
        nonlocal inside, most
        try:
            with remote_lock.lock_remotely(Objects(url)) as held:
                inside += 1
                most = max(most, inside)
                held.check()
                time.sleep(0.1)
                held.check()
                inside -= 1
                got.append(held.token)
        except LockedError:
            pass

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got
    assert most == 1
    assert names(url) == []


@pytest.mark.parametrize("scheme", ["s3", "memory"])
def test_an_object_is_made_only_where_there_is_none(url: str, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    there, read = Objects(url.replace("s3", scheme)), Objects.read
    there.write("run.lock", b"theirs")
    with monkeypatch.context() as patch:  # who looks, and is overtaken
        looked = []
        patch.setattr(Objects, "read", lambda *given: read(*given) if looked else looked.append(given))
        assert not there.create("run.lock", b"mine")
    plain = there._fs.pipe_file
    monkeypatch.setattr(
        there._fs, "pipe_file", lambda path, content, mode="": plain(path, content)
    )  # who knows no condition
    assert not there.create("run.lock", b"mine")
    assert there.read("run.lock", 9) == b"theirs"
    assert there.create("run.lock.2", b"mine")


@pytest.mark.usefixtures("on")
def test_a_taker_that_comes_late_leaves_the_new_lock_alone(url: str) -> None:
    there, stale = Objects(url), lock_of(host="elsewhere")
    fresh = lock_of(host="elsewhere", token="fresh")
    there.write("run.lock", fresh)
    mine = remote_lock.HeldRemotely(there, "mine", 0)
    assert not remote_lock._succeed(mine, stale)
    assert there.read("run.lock", 4096) == fresh
    there.write(f"run.lock.{hashlib.sha256(fresh).hexdigest()[:16]}", lock_of())  # another takes it over at this moment
    assert not remote_lock._succeed(mine, fresh)
    assert there.read("run.lock", 4096) == fresh


def test_who_lost_its_lock_notices_before_it_publishes(near: str, on: On) -> None:
    run = create_run(near, DATA, SETTINGS)
    with run.lock():
        storage(near).pipe_file(f"{near}/run.lock", lock_of(host="elsewhere"))
        with pytest.raises(LockedError, match="its lock was taken over by process .* on host elsewhere"):
            write(run, range(2))
        shutil.rmtree(run.folder)  # else the end of the block would publish again
    assert names(near)[-1] == "run.lock"  # which is not ours to take away
    on("there")
    assert_holds(near, range(0))


def test_a_journal_that_another_put_is_not_overwritten(near: str, on: On) -> None:
    run = create_run(near, DATA, SETTINGS)
    with run.lock():
        storage(near).pipe_file(f"{near}/journal.jsonl", b"theirs\n")
        with pytest.raises(LockedError, match="another process wrote to it"):
            write(run, range(2))
        shutil.rmtree(run.folder)
    assert storage(near).cat_file(f"{near}/journal.jsonl") == b"theirs\n"


@pytest.mark.usefixtures("on")
def test_a_place_that_holds_something_else_is_refused(near: str) -> None:
    storage(near).pipe_file(f"{near}/data.npz", b"my data")
    with pytest.raises(InputError, match="holds data.npz and is not a run of infl"):
        create_run(near, DATA, SETTINGS)
    assert names(near) == ["data.npz"]
    with pytest.raises(InputError, match="is an object and not a place for a run"):
        create_run(f"{near}/data.npz", DATA, SETTINGS)
    with pytest.raises(InputError, match=f"{near} is not a run folder: .* infl train DATASET --run {near}"):
        infl.open_run(near)


@pytest.mark.usefixtures("on", "server")
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://nowhere/run", "s3://nowhere/run cannot be listed: no such bucket"),
        ("s3://Not_A-Bucket!/run", "s3://Not_A-Bucket!/run cannot be read: "),
        ("nothing://bucket/run", "expected a URL as in s3://bucket/path: Protocol not known: nothing"),
        ("s3:///run", "expected a folder, or a URL as in s3://bucket/path"),
        ("gs://bucket/run", "gs://bucket/run needs a package that is not installed .*: pip install 'infl\\[gs\\]'"),
    ],
)
def test_a_wrong_place_ends_in_one_line(place: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=said):
        infl.open_run(place)
    assert main(["inspect", "--run", place]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_path_that_was_a_url_is_refused() -> None:
    with pytest.raises(InputError, match="a Path takes a slash out of a URL"):
        infl.open_run(Path("s3://bucket/run"))


def test_a_missing_package_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3")
    with pytest.raises(InputError, match="pip install 'infl\\[s3\\]'"):
        infl.open_run(url)


@pytest.mark.usefixtures("on")
@pytest.mark.parametrize("keys", [("wrong", "wrong"), None], ids=["wrong", "none"])
def test_wrong_credentials_end_in_one_line(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys: tuple[str, str] | None
) -> None:
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    monkeypatch.setattr(ActionAuthenticatorMixin, "request_count", 0)
    for name, key in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), keys or (None, None), strict=True):
        monkeypatch.delenv(name) if key is None else monkeypatch.setenv(name, key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    type(storage()).clear_instance_cache()
    try:
        with pytest.raises(InputError, match="credentials and endpoint are those that fsspec finds") as refused:
            infl.open_run(url)
    finally:
        type(storage()).clear_instance_cache()
    assert refused.value.exit_status == 2


def test_no_folder_is_asked_whether_storage_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    check_outputs(Import(file=Path("mine.npz"), run="s3://bucket/run"))
    with pytest.raises(InputError, match="cannot be written"):  # files are written to this machine
        check_outputs(Import(file=Path("mine.npz"), run="s3://bucket/run", json=tmp_path / "run.json"))


def test_commands_take_a_url(url: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(infl.__file__).parents[1]), "JAX_NUM_CPU_DEVICES": "2"}

    def infl_command(*words: str, cache: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "infl", *words],
            env={**environment, "INFL_CACHE_DIR": str(tmp_path / cache)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = ["--n-train", "60", "--n-held-out", "30", "--epochs", "1", "--hidden", "4", "--design", "uniform"]
    small += ["--devices", "1", "--block-size", "2"]
    said = infl_command("train", "digits", *small, "--models", "6", "--references", "2", "--run", url, cache="one")
    assert f"Next: infl scores --run {url}" in said
    said = infl_command("scores", "--run", url, "--example", "3", "--json", str(tmp_path / "scores.json"), cache="two")
    assert "from 6 models" in said
    assert json.loads((tmp_path / "scores.json").read_text())["n_models"] == 6
