"""A run folder gives back what was put into it, or says that it is damaged; it never gives back something else.

Training is the expensive part and its outcomes are kept here alone, so a row that is lost is a model trained for nothing,
and a row that is wrong is a wrong score that nobody will notice. Kills come at any moment, disks fill up, and folders are
copied and edited: each of these is staged here, byte for byte where that can be done. What is read back is compared with the
arrays that were written, which never leave this file's memory.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infl.data import from_arrays
from infl.records import Dataset, Groups, InputError, Outcomes
from infl.store import Run, bytes_per_model, create_run, name_of_cover, name_of_leave_out, open_run
from infl.store import rows as stored_rows

N, M = 13, 8
WIDTH = N + M  # no multiple of 8, so the last byte of bits is not full
FIELDS = ("masks", "correct", "margin")
SETTINGS = {
    "algorithm": {"network": {"name": "mlp", "hidden": [8]}, "epochs": 3},
    "design": {"fraction": 0.7},
    "seed": 0,
}


def make_dataset(seed: int = 0) -> Dataset:
    pixels = np.random.default_rng(seed).random((WIDTH, 2)).astype(np.float32)
    labels = np.arange(WIDTH) % 2
    names = ["T-shirt/top", "<b>œuf</b>, 'x' \u2028"]  # as users have them; what prints them escapes them
    return from_arrays(pixels[:N], labels[:N], pixels[N:], labels[N:], name="toy", class_names=names)


def make_groups(seed: int = 0) -> Groups:
    random = np.random.default_rng(seed)
    table = random.permutation(np.arange(N) % 3)
    return Groups(("labels", "users, of every sort"), np.stack([table, np.where(random.random(N) < 0.5, 0, -1)]))


def grouped(groups: Groups) -> dict[str, Any]:
    """Settings of a run whose models leave out these groups."""
    described = {"names": list(groups.names), "sha256": groups.fingerprint()}
    return {**SETTINGS, "design": {"kind": "grouped", "fraction": [0.7, 0.97], "groups": described}}


def make_outcomes(n_models: int, seed: int = 0) -> Outcomes:
    random = np.random.default_rng(seed)
    margin = (6 * random.normal(size=(n_models, WIDTH))).astype(np.float32)
    return Outcomes(random.random((n_models, N)) < 0.7, random.random((n_models, WIDTH)) < 0.5, margin)


def put(run: Run, outcomes: Outcomes, models: Sequence[int], *, collection: str = "design", finite: Any = None) -> None:
    """Write the outcomes with these numbers as the models with these numbers."""
    rows = list(models)
    assert outcomes.correct is not None
    assert outcomes.margin is not None
    block = Outcomes(outcomes.masks[rows], outcomes.correct[rows], outcomes.margin[rows])
    run.write(collection, rows, block, np.ones(len(rows), bool) if finite is None else np.array(finite), seconds=0.5)


def assert_same(stored: Outcomes, written: Outcomes, models: Sequence[int] | slice = slice(None)) -> None:
    assert stored.correct is not None
    assert stored.margin is not None
    assert written.correct is not None
    assert written.margin is not None
    np.testing.assert_array_equal(stored.masks, written.masks[models])
    np.testing.assert_array_equal(stored.correct, written.correct[models])
    assert stored.masks.dtype == stored.correct.dtype == bool
    np.testing.assert_allclose(stored.margin, written.margin[models], rtol=2**-11, atol=2**-25)


def flipped(content: bytes, position: int, bits: int = 1) -> bytes:
    return content[:position] + bytes([content[position] ^ bits]) + content[position + 1 :]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(tmp_path / "run", make_dataset(), SETTINGS)


@pytest.fixture
def grouped_run(tmp_path: Path) -> Run:
    return create_run(tmp_path / "run", make_dataset(), grouped(make_groups()), make_groups())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 4 models and a few columns, so that small arrays have many of them, some not full."""
    monkeypatch.setattr(stored_rows, "ROWS_PER_CHUNK", 4)
    monkeypatch.setattr(stored_rows, "BYTES_PER_CHUNK_ROW", 10)


# What is written is read back


@pytest.mark.parametrize("chunks", ["as they are", "small"])
@pytest.mark.parametrize("n_models", [1, 2, 70])
def test_what_is_written_is_read_back(run: Run, n_models: int, chunks: str, request: pytest.FixtureRequest) -> None:
    if chunks == "small":
        request.getfixturevalue("small_chunks")
    written = make_outcomes(n_models)
    put(run, written, range(n_models))
    for opened in (run, open_run(run.folder)):
        assert opened.complete("design") == list(range(n_models))
        assert_same(opened.outcomes("design").load(), written)


COLUMNS = {
    "all": slice(None),
    "first": slice(0, 1),
    "within a byte": slice(3, 5),
    "across bytes": slice(7, 9),
    "one byte": slice(8, 16),
    "from an odd offset": slice(5, 21),
    "last": slice(20, 21),
    "none": slice(4, 4),
    "from the end": slice(-3, None),
    "past the end": slice(15, 900),
    "every third": slice(2, 19, 3),
    "backwards": slice(None, None, -1),
    "one number": np.array([5]),
    "numbers": np.array([0, 20, 7]),
    "a number twice": np.array([20, 3, 3]),
    "numbers from the end": np.array([-1, 2]),
    "chosen": np.arange(WIDTH) % 5 == 1,
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
def test_columns_are_those_that_numpy_would_pick(run: Run, columns: Any) -> None:
    written = make_outcomes(11)
    put(run, written, range(11))
    (stored,) = run.outcomes("design").blocks(columns)
    (in_memory,) = written.blocks(columns)
    assert_same(stored, in_memory)


@pytest.mark.parametrize("n_rows", [1, 3, 7, 30, 100])
def test_blocks_of_any_size_join_to_the_same_outcomes(run: Run, n_rows: int) -> None:
    written = make_outcomes(30)
    put(run, written, range(30))
    columns = slice(6, 17)
    blocks = list(run.outcomes("design").blocks(columns, n_rows=n_rows))
    in_memory = list(written.blocks(columns, n_rows=n_rows))
    assert len(blocks) == len(in_memory)
    for stored, expected in zip(blocks, in_memory, strict=True):
        assert_same(stored, expected)


def test_an_estimate_is_the_same_from_disk_as_from_memory(run: Run) -> None:
    from infl.scores.influence import influence

    written = make_outcomes(40)
    put(run, written, range(40))
    for protocol in ("held-out", "left-out", "trained"):
        stored, expected = influence(run.outcomes("design"), protocol=protocol), influence(written, protocol=protocol)
        np.testing.assert_array_equal(stored.value, expected.value)
        np.testing.assert_array_equal(stored.se, expected.se)


@pytest.mark.usefixtures("small_chunks")
def test_rows_may_be_written_in_any_order(run: Run) -> None:
    written = make_outcomes(20)
    order = np.random.default_rng(1).permutation(20)
    for start in range(0, 20, 3):
        put(run, written, order[start : start + 3].tolist())
    stored = open_run(run.folder).outcomes("design")
    assert stored.models == tuple(range(20))
    assert_same(stored.load(), written)


@pytest.mark.usefixtures("small_chunks")
def test_a_run_that_grows_keeps_its_rows(run: Run) -> None:
    written = make_outcomes(40)
    for models in (range(5), range(5, 6), range(30, 40), range(6, 30)):
        put(open_run(run.folder), written, models)
    assert_same(open_run(run.folder).outcomes("design").load(), written)


def test_asked_for_models_come_in_the_order_asked_for_and_missing_ones_do_not(run: Run) -> None:
    written = make_outcomes(9)
    put(run, written, [0, 2, 8, 5])
    stored = run.outcomes("design", [8, 7, 2, 5])
    assert stored.models == (8, 2, 5)
    assert_same(stored.load(), written, [8, 2, 5])


def test_collections_are_kept_apart(run: Run) -> None:
    names = ["design", "full", name_of_leave_out([3, 4])]
    for seed, name in enumerate(names):
        put(run, make_outcomes(4, seed), range(4), collection=name)
    opened = open_run(run.folder)
    assert opened.collections() == sorted(names)
    for seed, name in enumerate(names):
        assert_same(opened.outcomes(name).load(), make_outcomes(4, seed))


def test_a_collection_without_models_is_empty(run: Run) -> None:
    assert list(run.outcomes("design").blocks()) == []
    empty = run.outcomes("design").load()
    assert (empty.n_models, empty.n_train, empty.n_columns) == (0, N, WIDTH)


def test_the_name_of_a_leave_out_depends_on_its_ids_alone() -> None:
    assert name_of_leave_out([5, 2, 11]) == name_of_leave_out((11, 5, 2))
    names = {name_of_leave_out(ids) for ids in ([1, 2], [12], [1], [2], [1, 2, 3], [1, 23])}
    assert len(names) == 6


def test_the_data_set_comes_back(run: Run) -> None:
    stored, given = open_run(run.folder).dataset(), make_dataset()
    for name, value in vars(given).items():
        np.testing.assert_array_equal(getattr(stored, name), value)


def test_the_groups_come_back(grouped_run: Run) -> None:
    stored = open_run(grouped_run.folder).groups("grouped")
    assert stored.names == make_groups().names
    assert all(type(name) is str for name in stored.names)
    np.testing.assert_array_equal(stored.tables, make_groups().tables)
    assert stored == make_groups()


def test_groups_of_other_collections_are_kept_beside_them(grouped_run: Run) -> None:
    names = [name_of_cover({"a": ids}) for ids in ([1, 2], [3])]
    for seed, name in enumerate(names, start=1):
        grouped_run.write_groups(name, make_groups(seed))
    opened = open_run(grouped_run.folder)
    assert [opened.groups(name) for name in ("grouped", *names)] == [make_groups(seed) for seed in range(3)]
    assert opened.collections() == []


def test_groups_that_are_there_stay(run: Run) -> None:
    name = name_of_cover({"a": [1, 2]})
    run.write_groups(name, make_groups())
    before = snapshot(run.folder)
    run.write_groups(name, make_groups())
    with pytest.raises(InputError, match=f"its collection {name} was made with other groups"):
        run.write_groups(name, make_groups(1))
    assert snapshot(run.folder) == before


def test_the_name_of_a_cover_depends_on_its_sets_and_not_on_their_order() -> None:
    assert name_of_cover({"a": [5, 2], "b": (1,)}) == name_of_cover({"b": [1], "a": np.array([2, 5]).tolist()})
    different: list[dict[str, list[int]]] = [
        {"a": [1], "b": [2]},
        {"a": [2], "b": [1]},
        {"a": [1, 2]},
        {"a": [12]},
        {"a": [1]},
        {"c": [1], "b": [2]},
        {"a:1;b": [2]},
        {'a": [1], "b': [2]},
    ]
    assert len({name_of_cover(sets) for sets in different}) == len(different)


def test_bytes_per_model_are_those_of_the_arrays(run: Run) -> None:
    put(run, make_outcomes(6), range(6))
    arrays = [
        stored_rows.open_array(run.folder / "models" / "design" / name) for name in ("masks", "correct", "margin")
    ]
    n_bytes = sum(array.size * array.dtype.numpy_dtype.itemsize for array in arrays)
    assert bytes_per_model(N, WIDTH) * 6 == n_bytes


# Margins and divergence


def test_margins_beyond_float16_stay_finite_and_keep_their_sign(run: Run) -> None:
    extreme = np.array([1e6, -1e6, 65504.0, -70000.0, np.inf, -np.inf, 3.4e38, 1e-9], np.float32)
    written = make_outcomes(1)
    assert written.margin is not None
    written.margin[0, : len(extreme)] = extreme
    put(run, written, [0])
    stored = run.outcomes("design").load().of("margin")[0, : len(extreme)]
    assert np.isfinite(stored).all()
    np.testing.assert_array_equal(np.sign(stored[:-1]), np.sign(extreme[:-1]))
    assert (np.abs(stored[:-1]) >= 60000).all()
    assert abs(stored[-1]) < 1e-7


def test_diverged_models_are_complete_but_kept_out_of_the_outcomes(run: Run) -> None:
    written = make_outcomes(6)
    assert written.margin is not None
    written.margin[[1, 4]] = np.nan
    put(run, written, range(6), finite=[True, False, True, True, False, True])
    opened = open_run(run.folder)
    assert opened.complete("design") == [0, 1, 2, 3, 4, 5]
    assert opened.diverged("design") == [1, 4]
    assert opened.outcomes("design", [4, 5]).models == (5,)
    assert_same(opened.outcomes("design").load(), written, [0, 2, 3, 5])


def test_a_run_says_what_it_holds_and_what_is_missing(run: Run) -> None:
    run.record_session({"wanted": {"design": 6, "full": 2}})
    run.record_session({"wanted": {"design": 4}})
    put(run, make_outcomes(9), [0, 1, 3], finite=[True, False, True])
    put(run, make_outcomes(9), [5, 8])  # the last was not asked for
    content = open_run(run.folder).to_dict()
    assert content["collections"] == {
        "design": {"complete": 5, "missing": 2, "diverged": [1], "seconds": 1.0},
        "full": {"complete": 0, "missing": 2, "diverged": [], "seconds": 0},
    }
    assert content["seed"] == 0
    assert content["dataset"]["n_train"] == N
    json.dumps(content, allow_nan=False)


# Kills


def test_rows_without_a_line_in_the_journal_do_not_count(run: Run) -> None:
    first, second = make_outcomes(6, seed=0), make_outcomes(6, seed=1)
    put(run, first, [0, 1])
    before = (run.folder / "journal.jsonl").read_bytes()
    put(run, first, [2, 3, 4])
    (run.folder / "journal.jsonl").write_bytes(before)  # the kill came between the rows and the line

    opened = open_run(run.folder)
    assert opened.complete("design") == [0, 1]
    assert_same(opened.outcomes("design").load(), first, [0, 1])
    put(opened, second, [2, 3])
    stored = open_run(run.folder).outcomes("design")
    assert stored.models == (0, 1, 2, 3)
    assert_same(
        stored.load(), Outcomes(*(np.concatenate([getattr(first, k)[:2], getattr(second, k)[2:4]]) for k in FIELDS))
    )


def test_a_last_line_torn_at_any_byte_is_ignored_and_cut_off_by_the_next(run: Run) -> None:
    path, written = run.folder / "journal.jsonl", make_outcomes(9)
    put(run, written, [0, 1])
    put(run, written, [2, 3])
    whole = path.read_bytes()
    put(run, written, [4, 5, 6])
    content = path.read_bytes()
    assert len(content) > len(whole) + 50
    for length in range(len(whole), len(content)):
        path.write_bytes(content[:length])
        torn = open_run(run.folder)
        assert torn.complete("design") == [0, 1, 2, 3]
        torn.record_session({"wanted": {"full": length}})
        after = open_run(run.folder)
        assert after.complete("design") == [0, 1, 2, 3]
        assert [session["wanted"] for session in after.to_dict()["sessions"]] == [{"full": length}]
        assert path.read_bytes().startswith(whole)
        assert path.read_bytes().count(b"\n") == whole.count(b"\n") + 1
    put(open_run(run.folder), written, [4, 5, 6])
    assert_same(open_run(run.folder).outcomes("design").load(), written, slice(0, 7))


class Killed(BaseException):
    """Stands for SIGKILL: nothing in infl catches it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Die at the given step of those that make or rename a file; a step is half done where that is possible."""
    steps: Iterator[int] = iter(range(step + 1))

    def dying(owner: Any, name: str, half: Callable[..., None] | None = None) -> None:
        original = getattr(owner, name)

        def wrapper(*arguments: Any, **settings: Any) -> Any:
            if next(steps, None) == step:
                if half is not None:
                    half(*arguments)
                raise Killed
            return original(*arguments, **settings)

        monkeypatch.setattr(owner, name, wrapper)

    def torn(file: int) -> None:
        if stat.S_ISREG(os.fstat(file).st_mode):
            os.ftruncate(file, 20)

    dying(os, "fsync", torn)
    dying(Path, "replace")
    dying(Path, "touch")


@pytest.mark.parametrize("step", range(7))
def test_a_grouped_folder_whose_making_was_killed_is_made_again_with_the_groups_asked_for_then(
    tmp_path: Path, step: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(Killed):
            create_run(tmp_path / "run", make_dataset(), grouped(make_groups(1)), make_groups(1))
    assert not (tmp_path / "run" / "run.json").exists()
    create_run(tmp_path / "run", make_dataset(), grouped(make_groups()), make_groups())
    opened = open_run(tmp_path / "run")
    assert opened.groups("grouped") == make_groups()
    assert opened.dataset().fingerprint() == make_dataset().fingerprint()
    assert not list((tmp_path / "run").rglob("*.partial"))


@pytest.mark.parametrize("step", range(2))
def test_groups_whose_writing_was_killed_are_written_again(run: Run, step: int) -> None:
    name = name_of_cover({"a": [1, 2]})
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(Killed):
            run.write_groups(name, make_groups(1))
    with pytest.raises(InputError, match=f"{name}.npz is missing or damaged"):
        open_run(run.folder).groups(name)
    open_run(run.folder).write_groups(name, make_groups())
    assert open_run(run.folder).groups(name) == make_groups()


@pytest.mark.parametrize("step", range(5))
def test_a_folder_whose_making_was_killed_is_made_again(tmp_path: Path, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(Killed):
            create_run(tmp_path / "run", make_dataset(), SETTINGS)
    assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run" / "run.json").exists()
    run = create_run(tmp_path / "run", make_dataset(), SETTINGS)
    put(run, make_outcomes(2), [0, 1])
    opened = open_run(tmp_path / "run")
    assert opened.complete("design") == [0, 1]
    assert opened.dataset().fingerprint() == make_dataset().fingerprint()
    assert not list((tmp_path / "run").glob("*.partial"))


# Damage


def test_a_journal_with_a_flipped_byte_names_the_line(run: Run) -> None:
    path, written = run.folder / "journal.jsonl", make_outcomes(9)
    for models in ([0, 1], [2, 3], [4]):
        put(run, written, models)
    content = path.read_bytes()
    for position in range(len(content) - 1):
        path.write_bytes(flipped(content, position))
        number = content[:position].count(b"\n") + 1
        with pytest.raises(InputError, match=f"journal.jsonl is damaged in line {number};"):
            open_run(run.folder)
    path.write_bytes(flipped(content, len(content) - 1))  # a last line without its end is a torn one
    assert open_run(run.folder).complete("design") == [0, 1, 2, 3]


def test_a_damaged_line_can_be_deleted_as_the_message_advises(run: Run) -> None:
    path, written = run.folder / "journal.jsonl", make_outcomes(9)
    for models in ([0, 1], [2, 3], [4]):
        put(run, written, models)
    first, _, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + last)
    assert open_run(run.folder).complete("design") == [0, 1, 4]
    assert_same(open_run(run.folder).outcomes("design").load(), written, [0, 1, 4])


def test_a_truncated_manifest_is_an_error(run: Run) -> None:
    path = run.folder / "run.json"
    content = path.read_bytes()
    for length in range(len(content) - 1):  # but for the last line break
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="run.json is damaged"):
            open_run(run.folder)


@pytest.mark.parametrize("bits", [0x01, 0x10, 0x20, 0x80])
def test_a_manifest_with_a_flipped_byte_is_an_error_or_says_the_same(run: Run, bits: int) -> None:
    path = run.folder / "run.json"
    content, manifest, refused = path.read_bytes(), run.manifest, 0
    for position in range(len(content)):
        path.write_bytes(flipped(content, position, bits))
        try:
            assert open_run(run.folder).manifest == manifest
        except InputError as error:
            assert "run.json is damaged" in str(error)  # noqa: PT017
            refused += 1
    assert refused > 0.6 * len(content)  # the rest is indentation


@pytest.mark.parametrize("content", [b"", b"hello", b"{", b"[]", b"3", b"null", b'"checksum"', b"{}", b"\xff\xfe\x00"])
def test_a_manifest_that_is_none_is_an_error(run: Run, content: bytes) -> None:
    (run.folder / "run.json").write_bytes(content)
    with pytest.raises(InputError, match="run.json is damaged"):
        open_run(run.folder)
    with pytest.raises(InputError, match="run.json is damaged"):
        create_run(run.folder, make_dataset(), SETTINGS)


def test_a_manifest_of_another_format_is_an_error(run: Run) -> None:
    path = run.folder / "run.json"
    manifest = {**run.manifest, "format": 99}
    seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**manifest, "checksum": seal}))
    with pytest.raises(InputError, match="format 99; this version of infl reads format 2"):
        open_run(run.folder)


def test_damaged_examples_are_an_error_or_the_same(run: Run) -> None:
    path = run.folder / "data.npz"
    content, refused = path.read_bytes(), 0
    positions = range(0, len(content), 9)
    for position in positions:
        path.write_bytes(flipped(content, position))
        try:
            stored = run.dataset()
        except InputError as error:
            assert "data.npz is" in str(error)  # noqa: PT017
            refused += 1
        else:
            for name, value in vars(make_dataset()).items():
                np.testing.assert_array_equal(getattr(stored, name), value)
    assert refused > 0.6 * len(positions)  # the rest is dates, versions and permissions


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.5, 0.99])
def test_examples_that_are_cut_are_an_error(run: Run, share: float) -> None:
    path = run.folder / "data.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="data.npz is missing or damaged"):
        run.dataset()


@pytest.mark.parametrize("content", [None, b"hello", b"\x93NUMPY", b"PK\x03\x04"])
def test_examples_that_are_gone_or_none_are_an_error(run: Run, content: bytes | None) -> None:
    path = run.folder / "data.npz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="data.npz is missing or damaged"):
        run.dataset()


def test_examples_of_another_run_are_an_error(run: Run, tmp_path: Path) -> None:
    other = create_run(tmp_path / "other", make_dataset(seed=1), SETTINGS)
    shutil.copy(other.folder / "data.npz", run.folder / "data.npz")
    with pytest.raises(InputError, match="data.npz is not the data that this run was made with"):
        run.dataset()


def test_damaged_groups_are_an_error_or_the_same(grouped_run: Run) -> None:
    path = grouped_run.folder / "groups" / "grouped.npz"
    content, refused = path.read_bytes(), 0
    positions = range(0, len(content), 3)
    for position in positions:
        path.write_bytes(flipped(content, position))
        try:
            assert grouped_run.groups("grouped") == make_groups()
        except InputError as error:
            assert "groups/grouped.npz is" in str(error)  # noqa: PT017
            refused += 1
    assert refused > 0.6 * len(positions)  # the rest is dates, versions and permissions


@pytest.mark.parametrize("content", [None, b"", b"hello", b"PK\x03\x04", 0.3, 0.99])
def test_groups_that_are_gone_or_none_or_cut_are_an_error(grouped_run: Run, content: Any) -> None:
    path = grouped_run.folder / "groups" / "grouped.npz"
    whole = path.read_bytes()
    path.unlink()
    if isinstance(content, float):
        content = whole[: int(content * len(whole))]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="groups/grouped.npz is missing or damaged"):
        grouped_run.groups("grouped")


def test_groups_of_another_run_are_an_error(grouped_run: Run, tmp_path: Path) -> None:
    """They would give every model that is still to be trained another mask."""
    other = create_run(tmp_path / "other", make_dataset(), grouped(make_groups(1)), make_groups(1))
    shutil.copy(other.folder / "groups" / "grouped.npz", grouped_run.folder / "groups" / "grouped.npz")
    with pytest.raises(InputError, match="groups/grouped.npz is not the groups that this run was made with"):
        grouped_run.groups("grouped")
    shutil.copy(other.folder / "data.npz", grouped_run.folder / "groups" / "grouped.npz")
    with pytest.raises(InputError, match="groups/grouped.npz is missing or damaged"):
        grouped_run.groups("grouped")


def test_damaged_outcomes_are_an_error_or_the_same(run: Run) -> None:
    written = make_outcomes(9)
    put(run, written, range(9))
    files = sorted(path for path in (run.folder / "models").rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) == 6  # three arrays of one chunk
    for path in files:
        content, refused = path.read_bytes(), 0
        positions = range(0, len(content), 3)
        for position in positions:
            path.write_bytes(flipped(content, position))
            try:
                assert_same(open_run(run.folder).outcomes("design").load(), written)
            except InputError as error:
                assert "models/design is damaged" in str(error)  # noqa: PT017
                refused += 1
        path.unlink()
        with pytest.raises(InputError, match="models/design is damaged"):
            open_run(run.folder).outcomes("design").load()
        path.write_bytes(content)
        assert refused > 0.6 * len(positions)
        if path.name != "zarr.json":
            assert refused == len(positions)


# Folders that are something else


def test_a_folder_that_is_not_a_run_is_left_as_it_is(tmp_path: Path) -> None:
    for name, content in (
        ("notes.txt", b"mine"),
        ("data.npz", b"my own data"),
        ("journal.jsonl", b"mine\n"),
        ("groups", b"mine"),
    ):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match="is not a run"):
            create_run(folder, make_dataset(), SETTINGS)
        with pytest.raises(InputError, match="is not a run folder"):
            open_run(folder)
        assert snapshot(folder) == {name: content}


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("mine")
    for folder in (path, path / "below", path / "far" / "below"):
        with pytest.raises(InputError, match=r"is not a run of infl|cannot be written"):
            create_run(folder, make_dataset(), SETTINGS)
        with pytest.raises(InputError, match="is not a run folder"):
            open_run(folder)
    assert path.read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that not even root can write to")
def test_a_folder_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(InputError, match="/proc/infl: cannot be written"):
        create_run("/proc/infl", make_dataset(), SETTINGS)


def test_an_empty_folder_becomes_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    create_run(tmp_path / "run", make_dataset(), SETTINGS)
    assert open_run(tmp_path / "run").complete("design") == []


def test_a_disk_that_refuses_is_an_error_and_marks_nothing_complete(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    put(run, make_outcomes(4), [0, 1])
    shutil.move(run.folder / "models", run.folder / "away")
    (run.folder / "models").write_text("in the way")
    with pytest.raises(InputError, match="cannot write outcomes"):
        put(run, make_outcomes(4), [2, 3])
    (run.folder / "models").unlink()
    shutil.move(run.folder / "away", run.folder / "models")

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            run.record_session({"wanted": {"design": 4}})
        with pytest.raises(InputError, match="No space left on device"):
            create_run(run.folder.parent / "other", make_dataset(), SETTINGS)
    assert run.complete("design") == [0, 1]
    put(run, make_outcomes(4), [2, 3])
    assert_same(open_run(run.folder).outcomes("design").load(), make_outcomes(4))


# Other settings, other data


def test_the_same_settings_continue_a_run(run: Run) -> None:
    put(run, make_outcomes(2), [0, 1])
    again = create_run(run.folder, make_dataset(), {**SETTINGS, "versions": {"jax": "99"}, "infl": "99"})
    assert again.complete("design") == [0, 1]


def test_settings_may_hold_tuples_and_numpy_numbers(tmp_path: Path) -> None:
    settings = {"algorithm": {"widths": (3, 4), "epochs": np.int64(3), "rate": np.float32(0.5)}, "seed": np.int64(7)}
    create_run(tmp_path / "run", make_dataset(), settings)
    again = create_run(tmp_path / "run", make_dataset(), settings)
    assert again.manifest["algorithm"] == {"widths": [3, 4], "epochs": 3, "rate": 0.5}
    assert again.manifest["seed"] == 7


def test_each_setting_that_differs_is_named_with_both_values(run: Run) -> None:
    before = snapshot(run.folder)
    network = {"name": "mlp", "hidden": [8, 8]}
    other = {"algorithm": {"network": network, "epochs": 5, "momentum": 0.9}, "design": {}, "seed": 1}
    with pytest.raises(InputError) as caught:
        create_run(run.folder, make_dataset(), other)
    for difference in (
        "algorithm.network.hidden is [8] in the run, [8, 8] asked for",
        "algorithm.epochs is 3 in the run, 5 asked for",
        "algorithm.momentum is None in the run, 0.9 asked for",
        "design.fraction is 0.7 in the run, None asked for",
        "seed is 0 in the run, 1 asked for",
    ):
        assert difference in str(caught.value)
    assert "network.name" not in str(caught.value)
    assert snapshot(run.folder) == before


def test_other_data_are_an_error(run: Run) -> None:
    before = snapshot(run.folder)
    with pytest.raises(InputError, match="dataset.fingerprint is"):
        create_run(run.folder, make_dataset(seed=1), SETTINGS)
    assert snapshot(run.folder) == before


def test_other_groups_are_an_error(grouped_run: Run) -> None:
    before = snapshot(grouped_run.folder)
    with pytest.raises(InputError, match=r"made with other settings: design.groups.sha256 is '\w+' in the run"):
        create_run(grouped_run.folder, make_dataset(), grouped(make_groups(1)), make_groups(1))
    assert snapshot(grouped_run.folder) == before
