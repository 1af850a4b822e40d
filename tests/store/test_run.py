"""A run folder gives back what was put into it, or says that it is damaged; it never gives back something else.

Training is the expensive part and its outcomes are kept here alone, so a row that is lost is a model trained for nothing,
and a row that is wrong is a wrong score that nobody will notice. Kills come at any moment, disks fill up, and folders are
copied and edited: each of these is staged here, byte for byte where that can be done. What is read back is compared with the
arrays that were written, which never leave this file's memory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infl.data import from_arrays
from infl.records import MAX_MARGIN, Dataset, DiskError, ForgetSet, Groups, InputError, Outcomes, join_blocks
from infl.records.files import checksum
from infl.scores.influence import influence, memorization
from infl.store import Collection, Run, bytes_per_model, cover_name, create_run, leave_out_name, open_run, storage
from infl.store import blocks as stored_blocks
from infl.store.manifest import read_groups
from tests.streaming import peak_bytes

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
    without = ForgetSet("mine", (3, 4)) if collection.startswith("without") else None
    run.add_collection(Collection(collection, {"kind": "leave-out" if without else "uniform"}, forget_set=without))
    block = Outcomes(*(getattr(outcomes, field)[rows] for field in FIELDS))
    run.write(collection, rows, block, np.ones(len(rows), bool) if finite is None else np.array(finite), seconds=0.5)


def assert_same(stored: Any, written: Any, models: Sequence[int] | slice = slice(None)) -> None:
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
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of at most 4 models and tiles of 8 columns, so that small arrays have many of them, some not full."""
    monkeypatch.setattr("infl.store.run.MAX_BLOCK_MODELS", 4)
    monkeypatch.setattr(stored_blocks, "TILE_COLUMNS", 8)


# What is written is read back


@pytest.mark.parametrize("blocks", ["as they are", "small"])
@pytest.mark.parametrize("n_models", [1, 70])
def test_what_is_written_is_read_back(run: Run, n_models: int, blocks: str, request: pytest.FixtureRequest) -> None:
    if blocks == "small":
        request.getfixturevalue("small_blocks")
    written = make_outcomes(n_models)
    put(run, written, range(n_models))
    for opened in (run, open_run(run.folder)):
        assert opened.complete("design") == list(range(n_models))
        assert_same(opened.outcomes("design").load(), written)


COLUMNS = {
    "all": slice(None),
    "across bytes": slice(7, 9),
    "from an odd offset": slice(5, 21),
    "none": slice(4, 4),
    "past the end": slice(15, 900),
    "every third": slice(2, 19, 3),
    "backwards": slice(None, None, -1),
    "numbers": np.array([0, 20, 7]),
    "chosen": np.arange(WIDTH) % 5 == 1,
}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
def test_columns_are_those_that_numpy_would_pick(run: Run, columns: Any) -> None:
    """In blocks of any number of rows."""
    written = make_outcomes(11)
    put(run, written, range(11))
    for n_rows in (1, 7, 100):
        blocks = list(run.outcomes("design").blocks(columns, n_rows=n_rows))
        for stored, in_memory in zip(blocks, written.blocks(columns, n_rows=n_rows), strict=True):
            assert_same(stored, in_memory)


def test_a_kind_that_is_not_asked_for_is_not_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Margins are nine tenths of the bytes, and scores of `correct` rest on none of them."""
    written, read, read_tiles = make_outcomes(11), set(), stored_blocks.read_tiles

    def record(storage: Any, block: Any, layout: Any, wanted: Any, cache: Any) -> Any:
        read.update(array for array, _ in wanted)
        return read_tiles(storage, block, layout, wanted, cache)

    put(run, written, range(11))
    monkeypatch.setattr(stored_blocks, "read_tiles", record)
    for kinds in [(), ("correct",), ("margin",)]:
        (stored,), (in_memory,) = (one.blocks(slice(3, 5), kinds=kinds) for one in (run.outcomes("design"), written))
        np.testing.assert_array_equal(stored.masks, in_memory.masks)
        for kind in ("correct", "margin"):
            assert (getattr(stored, kind) is None) == (getattr(in_memory, kind) is None) == (kind not in kinds)
        assert read == {"masks", *kinds}
        read.clear()
    memorization(run)
    influence(run)
    assert read == {"masks", "correct"}


def test_memory_of_scores_does_not_grow_with_the_number_of_models(tmp_path: Path) -> None:
    """Beyond the numbers of the models: four times as many blocks are read one after another."""
    n_train, n_columns, n_models, random = 2000, 2400, 256, np.random.default_rng(0)
    pixels, labels = np.zeros((n_columns, 1), np.float32), np.arange(n_columns) % 2
    dataset = from_arrays(pixels[:n_train], labels[:n_train], pixels[n_train:], labels[n_train:], name="wide")
    run = create_run(tmp_path / "run", dataset, SETTINGS)
    run.add_collection(Collection("design", {"kind": "uniform"}))
    masks, correct = random.random((n_models, n_train)) < 0.7, random.random((n_models, n_columns)) < 0.5
    block, peaks = Outcomes(masks, correct, random.normal(size=correct.shape).astype(np.float32)), []
    for number in range(8):
        models = range(number * n_models, (number + 1) * n_models)
        run.write("design", models, block, np.ones(n_models, bool), seconds=0.5)
        if number in (1, 7):
            peaks.append(peak_bytes(lambda: memorization(open_run(tmp_path / "run").outcomes("design"))))
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.usefixtures("small_blocks")
def test_rows_may_be_written_in_any_order_and_a_run_that_grows_keeps_them(run: Run) -> None:
    written = make_outcomes(40)
    for models in (np.random.default_rng(1).permutation(20).tolist(), range(20, 25), range(35, 40), range(25, 35)):
        for start in range(0, len(models), 6):
            put(open_run(run.folder), written, models[start : start + 6])
    stored = open_run(run.folder).outcomes("design")
    assert stored.models == tuple(range(40))
    assert_same(stored.load(), written)


def test_asked_for_models_come_in_the_order_asked_for_and_missing_ones_do_not(run: Run) -> None:
    assert list(run.outcomes("design").blocks()) == []
    empty = run.outcomes("design").load()
    assert (empty.n_models, empty.n_train, empty.n_columns) == (0, N, WIDTH)
    written = make_outcomes(9)
    put(run, written, [0, 2, 8, 5])
    stored = run.outcomes("design", [8, 7, 2, 5])
    assert stored.models == (8, 2, 5)
    assert_same(stored.load(), written, [8, 2, 5])


def test_the_data_set_comes_back(run: Run) -> None:
    stored, given = open_run(run.folder).dataset(), make_dataset()
    for name, value in vars(given).items():
        np.testing.assert_array_equal(getattr(stored, name), value)


def test_groups_and_forget_sets_come_back_with_their_collection(grouped_run: Run) -> None:
    cover, without = cover_name({"a": [1, 2]}), leave_out_name([3, 4])
    forget_set = ForgetSet("mine, <b>too</b>", (3, 4), (2, 3, 4))
    given = [
        Collection("grouped", {"kind": "grouped", "fraction": [0.7, 0.97]}, make_groups()),
        Collection(cover, {"kind": "grouped"}, make_groups(1)),
        Collection(without, {"kind": "leave-out"}, forget_set=forget_set),
    ]
    for collection in given:
        grouped_run.add_collection(collection)
    opened = open_run(grouped_run.folder)
    assert opened.design_groups() == make_groups()
    assert opened.collections() == []
    for collection in given:
        there = opened.collection(collection.name)
        assert there.same_models(collection)
        assert there.forget_set == collection.forget_set
    put(opened, make_outcomes(2), range(2), collection=without)  # under another name, and without a concept
    assert open_run(grouped_run.folder).forget_sets() == [forget_set]


def test_a_collection_stays_as_it_was_made(run: Run) -> None:
    name = cover_name({"a": [1, 2]})
    run.add_collection(Collection(name, {"kind": "grouped"}, make_groups()))
    before = snapshot(run.folder)
    run.add_collection(Collection(name, {"kind": "grouped"}, make_groups()))
    for other in (
        Collection(name, {"kind": "grouped"}, make_groups(1)),
        Collection(name, {"kind": "uniform"}, make_groups()),
    ):
        with pytest.raises(InputError, match=f"its collection {name} was made by another design"):
            open_run(run.folder).add_collection(other)
    assert {path for path in snapshot(run.folder) if "groups" not in path} == {p for p in before if "groups" not in p}


def test_the_name_of_a_collection_depends_on_its_sets_and_not_on_their_order() -> None:
    assert leave_out_name([5, 2, 11]) == leave_out_name((11, 5, 2))
    ids = [[1, 2], [12], [1], [2], [1, 2, 3], [1, 23]]
    assert len({leave_out_name(one) for one in ids}) == len(ids)
    assert cover_name({"a": [5, 2], "b": (1,)}) == cover_name({"b": [1], "a": np.array([2, 5]).tolist()})
    sets: list[dict[str, list[int]]] = [
        *({"a": [1], "b": [2]}, {"a": [2], "b": [1]}, {"c": [1], "b": [2]}),
        *({"a": [1, 2]}, {"a": [12]}, {"a": [1]}, {"a:1;b": [2]}, {'a": [1], "b': [2]}),
    ]
    assert len({cover_name(one) for one in sets}) == len(sets)


def test_a_block_is_an_archive_that_numpy_reads(run: Run) -> None:
    written = make_outcomes(6)
    put(run, written, range(6))
    (path,) = run.folder.glob("collections/design/blocks/0000000-0000005.npz")
    with np.load(path) as arrays:
        masks = np.unpackbits(arrays["masks"], axis=1)[:, :N]
        margin = arrays["margin"].swapaxes(0, 1).reshape(6, -1)[:, :WIDTH]
        assert sum(arrays[name].nbytes for name in ("masks", "correct", "margin")) == 6 * bytes_per_model(N, WIDTH)
    np.testing.assert_array_equal(masks, written.masks)
    np.testing.assert_array_equal(margin, written.of("margin").astype(np.float16))


def test_shares_of_documents_are_read_back_by_rows_and_columns(tmp_path: Path, small_blocks: None) -> None:
    """Rounded by at most 2.5e-4, far below what models differ by; counts stay bits, and what is out of range comes into it."""
    labelled, random = make_outcomes(11), np.random.default_rng(1)
    shares, logprob = random.random((11, WIDTH)), -np.abs(random.normal(size=(11, WIDTH)))
    shares[0, :3], logprob[0, 0] = (0.0, 1.0, 1 / 3), -np.inf
    documents = random.integers(1, 9, (WIDTH, 6)).astype(np.int32)
    documents[3, 2:], documents[5, :3] = 0, -2  # padded; begins with a prompt, which is not scored
    words = ("", *"abcdefgh")
    data = replace(make_dataset(), x_train=documents[:N], x_held_out=documents[N:], vocabulary=words)
    documents_only = {"logprob": logprob, "exact": random.random((11, WIDTH)) < 0.5, "n_tokens": data.n_tokens}
    written = Outcomes(labelled.masks, shares, labelled.margin, **documents_only)
    kinds = ["correct", "margin", "logprob", "exact"]
    run = create_run(tmp_path / "run", data, SETTINGS | {"outcomes": kinds, "shares": True})
    run.add_collection(Collection("design", {"kind": "uniform"}))
    run.write("design", range(11), written, np.ones(11, bool), seconds=0.5)
    source = open_run(run.folder).outcomes("design")
    stored, columns = source.load(), np.array([3, 12, 20])
    assert [source.n_columns, list(stored.recorded)] == [WIDTH, kinds]
    assert [stored.is_binary("correct"), stored.is_binary("exact")] == [False, True]
    np.testing.assert_allclose(stored.of("correct"), shares, atol=2.5e-4)
    np.testing.assert_allclose(stored.of("logprob"), np.maximum(logprob, -MAX_MARGIN), rtol=2**-11)
    np.testing.assert_array_equal(stored.exact, written.exact)
    np.testing.assert_array_equal(stored.n_tokens, [1 if j == 3 else 3 if j == 5 else 5 for j in range(WIDTH)])
    part = join_blocks(list(source.blocks(columns, n_rows=5, kinds=("correct", "exact"))))
    np.testing.assert_array_equal(part.of("correct"), stored.of("correct")[:, columns])
    assert [list(part.recorded), part.n_tokens.tolist()] == [["correct", "exact"], [1, 5, 5]]  # pyright: ignore
    assert source.layout.bytes_per_model() == 2 + 3 * (3 * 16 + 1)  # 3 tiles of 8 columns


# Margins and divergence


def test_margins_beyond_float16_stay_finite_and_keep_their_sign(run: Run) -> None:
    extreme = np.array([1e6, -1e6, 65504.0, -70000.0, np.inf, -np.inf, 3.4e38, 1e-9], np.float32)
    written: Any = make_outcomes(1)
    written.margin[0, : len(extreme)] = extreme
    put(run, written, [0])
    stored = run.outcomes("design").load().of("margin")[0, : len(extreme)]
    assert np.isfinite(stored).all()
    np.testing.assert_array_equal(np.sign(stored[:-1]), np.sign(extreme[:-1]))
    assert (np.abs(stored[:-1]) >= 60000).all()
    assert abs(stored[-1]) < 1e-7


def test_diverged_models_are_complete_but_kept_out_of_the_outcomes(run: Run) -> None:
    written: Any = make_outcomes(6)
    written.margin[[1, 4]] = np.nan
    put(run, written, range(6), finite=[True, False, True, True, False, True])
    opened = open_run(run.folder)
    assert opened.complete("design") == [0, 1, 2, 3, 4, 5]
    assert opened.diverged("design") == [1, 4]
    assert opened.outcomes("design", [4, 5]).models == (5,)
    assert_same(opened.outcomes("design").load(), written, [0, 2, 3, 5])


def test_a_run_says_what_it_holds_and_what_is_missing(run: Run) -> None:
    session = {"date": "2026-11-28", "wanted": {"design": 6, "full": 2}, "devices": ["cpu:cpu"]}
    run.add_collection(Collection("design", {"kind": "uniform"}))
    run.write("design", [0, 1, 3], make_outcomes(3), np.array([1, 0, 1]), seconds=3.0, session=session)
    put(run, make_outcomes(9), [5, 8])  # the last was not asked for
    content = open_run(run.folder).to_dict()
    assert content["collections"] == {
        "design": {"complete": 5, "missing": 2, "diverged": [1], "seconds": 3.5},
        "full": {"complete": 0, "missing": 2, "diverged": [], "seconds": 0},
    }
    assert (content["seed"], content["dataset"]["n_train"], content["devices"]) == (0, N, ["cpu:cpu"])
    assert content["sessions"] == [session]
    json.dumps(content, allow_nan=False)


# Writers beside each other, and kills


def test_two_writers_of_one_block_write_it_once(run: Run) -> None:
    other = open_run(run.folder)
    put(run, make_outcomes(4), range(4))
    before = snapshot(run.folder)
    put(other, make_outcomes(4), range(4))
    assert snapshot(run.folder) == before
    assert other.complete("design") == [0, 1, 2, 3]
    assert_same(other.outcomes("design").load(), make_outcomes(4))


def test_of_two_blocks_that_hold_a_model_the_first_by_name_counts(run: Run) -> None:
    one, other = make_outcomes(8), make_outcomes(8, seed=1)
    put(open_run(run.folder), other, range(2, 8))
    put(open_run(run.folder), one, range(5))
    stored_models = open_run(run.folder).outcomes("design")
    assert stored_models.models == tuple(range(8))
    joined = Outcomes(*(np.concatenate([getattr(one, f)[:5], getattr(other, f)[5:]]) for f in FIELDS))
    assert_same(stored_models.load(), joined)


def test_a_second_trainer_is_told_and_not_kept_out(run: Run) -> None:
    with run.training() as alone, open_run(run.folder).training() as second:
        assert (alone, second) == (True, False)
    with open_run(run.folder).training() as alone:
        assert alone


class Killed(BaseException):
    """Stands for SIGKILL: nothing in infl catches it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Die at the given step of those that put an object on the disk, and clear nothing up."""
    left = step

    def dying(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapper(*arguments: Any, **settings: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return original(*arguments, **settings)

        monkeypatch.setattr(owner, name, wrapper)

    dying(os, "fsync")
    for name in ("put", "rename"):
        dying(storage.obstore, name)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)


@pytest.mark.parametrize("step", range(0, 24, 2))
def test_a_run_whose_making_was_killed_is_made_again_with_the_data_asked_for_then(tmp_path: Path, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step)
        try:
            create_run(tmp_path / "run", make_dataset(1), grouped(make_groups(1)), make_groups(1))
        except Killed:
            assert step < 18
    if (tmp_path / "run" / "run.json").exists():  # the last step but syncing its name
        assert step >= 14
        assert open_run(tmp_path / "run").dataset().fingerprint() == make_dataset(1).fingerprint()
        return
    create_run(tmp_path / "run", make_dataset(), grouped(make_groups()), make_groups())
    opened = open_run(tmp_path / "run")
    assert opened.design_groups() == make_groups()
    assert opened.dataset().fingerprint() == make_dataset().fingerprint()


@pytest.mark.parametrize("step", range(8))
def test_a_block_whose_writing_was_killed_is_there_whole_or_not_at_all(run: Run, step: int) -> None:
    written = make_outcomes(4)
    put(run, written, [0, 1])
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, step)
        with contextlib.suppress(Killed):
            put(run, written, [2, 3])
    opened = open_run(run.folder)
    assert not opened.damaged_blocks()
    assert opened.complete("design") in ([0, 1], [0, 1, 2, 3])
    put(opened, written, [2, 3])
    assert_same(open_run(run.folder).outcomes("design").load(), written)


# Damage


def test_damaged_outcomes_are_an_error_or_the_same_and_found(run: Run) -> None:
    written = make_outcomes(9)
    put(run, written, range(9))
    (path,) = run.folder.glob("collections/design/blocks/*.npz")
    content, refused, found = path.read_bytes(), 0, 0
    positions = range(0, len(content), 3)
    for position in positions:
        path.write_bytes(flipped(content, position))
        opened = open_run(run.folder)
        damaged = opened.damaged_blocks()
        found += bool(damaged)
        try:
            assert_same(opened.outcomes("design").load(), written)
        except DiskError as error:
            assert f"{path.name} is damaged" in str(error)  # noqa: PT017
            assert [(one.collection, one.models) for one in damaged] == [("design", range(9))]
            refused += 1
    assert refused > 0.5 * len(positions)  # the rest is names of members, dates, permissions and the headers of arrays
    assert found > refused
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DiskError, match="is damaged"):
        open_run(run.folder).outcomes("design")
    opened = open_run(run.folder)
    assert opened.remove(opened.damaged_blocks()) == {"design": list(range(9))}
    assert open_run(run.folder).complete("design") == []
    put(opened, written, range(9))
    assert_same(open_run(run.folder).outcomes("design").load(), written)


@pytest.mark.parametrize("whole", [True, False])
def test_a_block_or_data_of_another_place_is_found(run: Run, tmp_path: Path, whole: bool) -> None:
    """As when a disk brings back what lay elsewhere: the file is whole in itself."""
    written = make_outcomes(4)
    put(run, written, [0, 1])
    folder = run.folder / "collections" / "design" / "blocks"
    other = create_run(tmp_path / "other", make_dataset(seed=1), {**SETTINGS, "seed": 1})
    if whole:
        shutil.copy(folder / "0000000-0000001.npz", folder / "0000002-0000003.npz")
    else:
        put(other, written, [2, 3])
        shutil.copy(other.folder / "collections/design/blocks/0000002-0000003.npz", folder)
    with pytest.raises(DiskError, match=r"0000002-0000003.npz is damaged: it (holds other models|is of another run)"):
        open_run(run.folder).outcomes("design")
    assert [one.models for one in open_run(run.folder).damaged_blocks()] == [range(2, 4)]
    (mine,), (theirs,) = run.folder.glob("data/*.npz"), other.folder.glob("data/*.npz")
    shutil.copy(theirs, mine)
    with pytest.raises(InputError, match="is not the data that this run was made with"):
        run.dataset()


RECORDS = {
    "run.json": lambda run: open_run(run.folder).manifest,
    "collections/grouped/collection.json": lambda run: open_run(run.folder).collection("grouped").design,
    "data/*.npz": lambda run: open_run(run.folder).dataset().fingerprint(),
    "groups/*.npz": lambda run: open_run(run.folder).design_groups(),
}


@pytest.mark.parametrize("pattern", RECORDS)
def test_what_lies_beside_the_blocks_is_an_error_or_the_same_where_it_is_damaged(
    grouped_run: Run, pattern: str
) -> None:
    grouped_run.add_collection(Collection("grouped", {"kind": "grouped"}, make_groups()))
    (path,) = grouped_run.folder.glob(pattern)
    content, expected, refused = path.read_bytes(), RECORDS[pattern](grouped_run), 0
    positions = range(0, len(content), 3)
    for position in positions:
        path.write_bytes(flipped(content, position))
        try:
            assert RECORDS[pattern](grouped_run) == expected
        except InputError as error:
            assert f"{path.name} is" in str(error)  # noqa: PT017
            refused += 1
    assert refused > 0.5 * len(positions)  # the rest is indentation, dates and permissions
    for other in (b"", b"hello", b"[]", b"PK\x03\x04", content[: len(content) // 2]):
        path.write_bytes(other)
        with pytest.raises(InputError, match=f"{path.name} is"):
            RECORDS[pattern](grouped_run)


@pytest.mark.parametrize("named", ["../../secret", "a\nb", 7, "0" * 63])
def test_groups_are_named_by_a_fingerprint_and_nothing_else(run: Run, named: Any) -> None:
    """A stranger's record names no other file, and its words break no line. Found by 140,000 cases in experiments/faults."""
    with pytest.raises(DiskError, match="no fingerprint") as refused:
        read_groups(run.storage, named)
    assert "\n" not in str(refused.value)


def test_a_run_of_another_format_is_refused_in_a_line(run: Run) -> None:
    manifest = {**run.manifest, "format": 2}
    (run.folder / "run.json").write_text(json.dumps({**manifest, "checksum": checksum(manifest)}))
    with pytest.raises(InputError, match="format 2; this version of infl reads format 4: ") as refused:
        open_run(run.folder)
    assert "\n" not in str(refused.value)


# Folders that are something else


def test_a_folder_that_is_not_a_run_is_left_as_it_is(tmp_path: Path) -> None:
    """Also where there is a file in its place, or in that of a folder above it."""
    (tmp_path / "file").write_text("mine")
    for name in ("notes/notes.txt", "data/data/mine.npz", "collections/collections/x"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"mine")
    before = snapshot(tmp_path)
    for folder in ("notes", "data", "collections", "file", "file/below", "file/far/below"):
        with pytest.raises(InputError, match="is not a run of infl|cannot be"):
            create_run(tmp_path / folder, make_dataset(), SETTINGS)
        with pytest.raises(InputError, match="is not a run folder: it has no run.json"):
            open_run(tmp_path / folder)
    assert snapshot(tmp_path) == before
    (tmp_path / "empty").mkdir()
    assert create_run(tmp_path / "empty", make_dataset(), SETTINGS).complete("design") == []


def test_a_disk_that_refuses_is_an_error_and_marks_nothing_complete(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    put(run, make_outcomes(4), [0, 1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for refused in (
            lambda: put(run, make_outcomes(4), [2, 3]),
            lambda: create_run(run.folder.parent / "other", make_dataset(), SETTINGS),
        ):
            with pytest.raises(DiskError, match="cannot be written.*No space left on device"):
                refused()
    assert run.complete("design") == [0, 1]
    put(run, make_outcomes(4), [2, 3])
    assert_same(open_run(run.folder).outcomes("design").load(), make_outcomes(4))


# Other settings, other data


def test_the_same_settings_continue_a_run(tmp_path: Path) -> None:
    """Of other versions too; they may hold tuples and NumPy's numbers."""
    settings = {"algorithm": {"widths": (3, 4), "epochs": np.int64(3), "rate": np.float32(0.5)}, "seed": np.int64(7)}
    put(create_run(tmp_path / "run", make_dataset(), settings), make_outcomes(2), [0, 1])
    again = create_run(tmp_path / "run", make_dataset(), {**settings, "versions": {"jax": "99"}, "infl": "99"})
    assert again.complete("design") == [0, 1]
    assert again.manifest["algorithm"] == {"widths": [3, 4], "epochs": 3, "rate": 0.5}
    assert again.manifest["seed"] == 7


def test_each_setting_that_differs_is_named_with_both_values(grouped_run: Run) -> None:
    before = snapshot(grouped_run.folder)
    network = {"name": "mlp", "hidden": [8, 8]}
    settings = grouped(make_groups(1)) | {"algorithm": {"network": network, "epochs": 5, "momentum": 0.9}, "seed": 1}
    settings["design"] |= {"fraction": None}
    with pytest.raises(InputError) as caught:
        create_run(grouped_run.folder, make_dataset(seed=1), settings, make_groups(1))
    for difference in (
        "algorithm.network.hidden is [8] in the run, [8, 8] asked for",
        "algorithm.epochs is 3 in the run, 5 asked for",
        "algorithm.momentum is None in the run, 0.9 asked for",
        "design.fraction is [0.7, 0.97] in the run, None asked for",
        "design.groups.sha256 is '",
        "seed is 0 in the run, 1 asked for",
        "dataset.fingerprint is",
    ):
        assert difference in str(caught.value)
    assert "network.name" not in str(caught.value)
    assert snapshot(grouped_run.folder) == before
