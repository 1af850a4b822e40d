"""Turns masks and outcomes of models made elsewhere, an .npz file, into a run that can be scored."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import LABEL_KINDS, Array, Dataset, InputError, OutcomeKind, Outcomes
from infl.records.files import Archive, Arrays, Member, map_arrays, open_archive
from infl.records.outcomes import refuse_entries, wrong_entries
from infl.store.collections import Collection
from infl.store.opening import new_run
from infl.store.run import Run
from infl.store.storage import is_url

APART = "_held_out"  # behind the names of arrays whose columns of H stand apart
REMEDY = "write it with np.savez(path, masks=..., correct=..., labels=...)"
NUMBER = "save classes, labels = np.unique(labels, return_inverse=True), classes.astype(str) as class_names"
MAX_CLASSES = 1 << 16
BYTES_AT_ONCE = 1 << 26
MIN_WRONG = 100  # columns on which no model is wrong everywhere by chance
_COLLECTIONS = (("design", ""), ("full", "reference_"))
_ARRAYS = {  # kinds of dtype, and axes
    "masks": ("biuf", ("models", "n")),
    "labels": ("iu", ("n+m",)),
    "class_names": ("U", ("classes",)),
    "correct": ("biuf", ("models", "n+m")),
    "margin": ("biuf", ("models", "n+m")),
    "reference_correct": ("biuf", ("references", "n+m")),
    "reference_margin": ("biuf", ("references", "n+m")),
}


def import_outcomes(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    run: str | os.PathLike[str],
    names: Mapping[str, str] | None = None,
) -> Run:
    """Make a run of masks and outcomes that another program wrote; scores, queries and exports read it like any other.

    What comes in, as an .npz, a folder of .npy files, or arrays by name (also mapped from files):

        masks              [T, n] bool or 0/1: which of the n training examples each of T models trained on
        correct            [T, n+m] bool or 0/1: whether it predicts the label, training examples first, held-out ones after; or
                           shares in [0, 1], as the probability that it gives the label (soft memorization)
        margin             [T, n+m] finite numbers: log p(y) - max over c != y of log p(c). Beside `correct` or instead of it
        labels             [n+m] integers from 0 on
        class_names        names of the labels; may be left out
        reference_correct, reference_margin   [R, n+m] of models of all n examples; may be left out. With margins they make
                           `infl.predict(..., predictor="additive")` possible

    Columns of held-out examples may stand apart, in `correct_held_out` [T, m], `margin_held_out`, `labels_held_out` and so on,
    or be left out. Without columns of training examples (`labels` may be [m] then) there is influence on held-out ones alone.
    Rows that no model filled (no training example, zeros or NaN for all outcomes) are left out, and a warning counts them.
    Margins and shares are kept as float16, as those of infl's own models. Errors of scores take models as independent draws.
    The run holds no pixels and no training algorithm: it cannot be trained on or verified. Files are read in blocks of rows,
    never whole. Until all of it is in place there is no run; an import that fails leaves nothing behind, and after one that
    was killed the same call begins anew.

    Args:
        source: The arrays, or the path of the file or folder.
        run: The folder to make, or a URL on object storage, which is new or empty.
        names: What arrays are called there, by the names above, as in `{"masks": "trainset_mask"}`.

    Raises:
        InputError: where something is missing, damaged or not as above, or the folder of the run holds something.

    Examples:
        >>> import tempfile, infl
        >>> folder = Path(tempfile.mkdtemp())
        >>> masks = np.repeat([1, 2, 3], 2)[:, None] >> np.arange(2) & 1 == 1
        >>> np.savez(folder / "mine.npz", masks=masks, correct=np.c_[masks, masks[:, 0]], labels=[0, 1, 0])
        >>> infl.memorization(infl.import_outcomes(folder / "mine.npz", run=folder / "run").outcomes("design")).value
        array([1., 1.])
    """
    with _opened(source, names or {}) as archive:
        path = archive.path
        kinds, n_train, n_columns = _check_shapes(archive)
        dataset = _examples(archive, n_train, n_columns)
        settings = {
            "algorithm": {"network": {"name": "unknown"}},
            "design": {"kind": "imported"},
            "seed": None,
            "outcomes": list(kinds),
            **({"shares": True} if _holds_shares(archive, n_columns) else {}),
            **({"held_out_only": True} if archive.held_out_only else {}),
            "imported": str(path),
        }
        with new_run(str(run) if is_url(run) else Path(run).expanduser(), dataset, settings) as made:
            for collection, prefix in _COLLECTIONS:
                if prefix and f"{prefix}{kinds[0]}" not in archive.names:
                    continue
                made.add_collection(Collection(collection, {"kind": "full" if prefix else "imported"}))
                n_rows = n_models = 0
                with closing(_blocks(archive, kinds, prefix, n_train, n_columns)) as blocks:
                    for filled, outcomes in blocks:
                        models = range(n_models, n_models + outcomes.n_models)
                        if models:
                            made.write(collection, models, outcomes, np.ones(len(models), bool), seconds=0.0)
                        n_rows, n_models = n_rows + len(filled), models.stop
                rows = f"{n_rows:,} rows of {prefix or 'masks and '}outcomes"
                if not n_models:
                    raise InputError(f"{path}: none of the {rows} was filled")
                if n_models < n_rows:
                    warnings.warn(
                        f"{path}: {n_rows - n_models:,} of {rows} are left out: no model filled them, or it diverged "
                        "(no training example, no outcome, or wrong everywhere)",
                        stacklevel=2,
                    )
    return made


class _Named:
    """Arrays by the names that infl gives them, the columns of held-out examples behind those of the training examples."""

    def __init__(self, source: Archive | Arrays, names: Mapping[str, str]) -> None:
        self.path, self._source = source.path, source
        self._names = {name: name for name in source.names if name not in names.values()} | dict(names)
        if missing := sorted({*names.values()} - {*source.names}):
            raise InputError(
                f"{self.path}: no array is called {missing[0]!r}; there are {', '.join(source.names) or 'none'}"
            )
        if unknown := sorted({*names} - {*_ARRAYS} - {f"{name}{APART}" for name in _ARRAYS}):
            raise InputError(
                f"names: expected some of {', '.join(_ARRAYS)}, with {APART} or without, got {unknown[0]!r}"
            )
        apart = [f"{kind}{APART}" for kind in LABEL_KINDS if f"{kind}{APART}" in self._names]
        self.held_out_only = bool(apart) and not self._names.keys() & {*LABEL_KINDS}
        if self.held_out_only and "labels" in self._names and f"labels{APART}" not in self._names:
            shapes = [self._source.member(self._names[name]).shape for name in ("labels", apart[0])]
            if shapes[0] == shapes[1][1:]:
                self._names[f"labels{APART}"] = self._names.pop("labels")

    @property
    def names(self) -> list[str]:
        return sorted({*self._names, *filter(self.lacks_train, _ARRAYS)})

    def lacks_train(self, name: str) -> bool:
        """Whether there are columns of held-out examples alone."""
        there = f"{name}{APART}" in self._names and name not in self._names
        return self.held_out_only and there and _ARRAYS[name][1][-1] == "n+m"

    def parts(self, name: str) -> list[str]:
        """What the array is called in the source: the whole, or the columns of D and of H."""
        return [self._names[part] for part in (name, f"{name}{APART}") if part in self._names]

    def member(self, name: str) -> Member:
        first, *rest = (self._source.member(part) for part in self.parts(name))
        for one in rest:
            if one.shape[:-1] != first.shape[:-1]:
                raise InputError(
                    f"{self.path}: {first.name} is {first.shape}, {one.name} {one.shape}: rows must be the same"
                )
            shape = (*first.shape[:-1], first.shape[-1] + one.shape[-1])
            first = replace(first, shape=shape, dtype=np.result_type(first.dtype, one.dtype))
        return first

    def width_of_first(self, name: str) -> int:
        """Columns of training examples where those of held-out ones stand apart."""
        return self._source.member(self.parts(name)[0]).shape[-1]

    def blocks(self, name: str, *, n_rows: int) -> Generator[Array]:
        with ExitStack() as stack:
            parts = [
                stack.enter_context(closing(self._source.blocks(part, n_rows=n_rows))) for part in self.parts(name)
            ]
            for blocks in zip(*parts, strict=True):
                yield blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=-1)


@contextmanager
def _opened(source: str | os.PathLike[str] | Mapping[str, Any], names: Mapping[str, str]) -> Iterator[_Named]:
    if isinstance(source, Mapping):
        yield _Named(Arrays(Path("arrays"), source), names)
        return
    path = Path(source).expanduser().absolute()
    if path.is_dir():
        yield _Named(map_arrays(path), names)
        return
    with open_archive(path) as archive:
        yield _Named(archive, names)


def _check_shapes(archive: _Named) -> tuple[tuple[OutcomeKind, ...], int, int]:
    """Kinds of outcomes in the file, n and n+m; everything that headers can tell is right after this."""
    there, path = set(archive.names), archive.path
    kinds: tuple[OutcomeKind, ...] = tuple(kind for kind in LABEL_KINDS if kind in there)
    missing = [name for name in ("masks", "labels") if name not in there]
    missing += [] if kinds else ["correct or margin"]
    if missing:
        raise InputError(
            f"{path}: expected the arrays masks, labels, and correct or margin; missing {', '.join(missing)}, "
            f"found {', '.join(map(repr, archive.names[:20])) or 'none'}; {REMEDY}"
        )
    lengths: dict[str, tuple[str, int]] = {}  # of each axis, and the array that says so
    for name in (name for name in _ARRAYS if name in there):
        member, axes = _check_member(archive, name), _ARRAYS[name][1]
        shape = (*member.shape[:-1], member.shape[-1] + lengths["n"][1]) if archive.lacks_train(name) else member.shape
        for axis, length in zip(axes, shape, strict=True):
            first, known = lengths.setdefault(axis, (name, length))
            if length != known:
                raise InputError(
                    f"{path}: {first} is of {known:,} {axis}, {name} of {length:,}; row t of all belongs to model t, and "
                    "columns and labels are of the training examples and then of the held-out ones"
                )
    (_, n_models), (_, n_train), (_, n_columns) = (lengths[axis] for axis in ("models", "n", "n+m"))
    if not n_models or not n_train or n_columns < n_train:
        raise InputError(
            f"{path}: expected at least one model and one training example, got masks {(n_models, n_train)} and {n_columns:,} "
            "labels, which are of the training examples and then of the held-out ones"
        )
    for name in (name for name in _ARRAYS if name in there and len(archive.parts(name)) > 1):
        if archive.width_of_first(name) != n_train:
            raise InputError(
                f"{path}: {name}: expected {n_train:,} columns as masks has, since those of held-out examples stand apart, got "
                f"{archive.width_of_first(name):,}"
            )
    references = [kind for kind in LABEL_KINDS if f"reference_{kind}" in there]
    if references and references != list(kinds):
        raise InputError(
            f"{path}: the models' outcomes are {' and '.join(kinds)}, the references' {' and '.join(references)}; "
            "give both the same kinds, or leave the references out"
        )
    return kinds, n_train, n_columns


def _check_member(archive: _Named, name: str) -> Member:
    member, (dtypes, axes) = archive.member(name), _ARRAYS[name]
    if len(member.shape) != len(axes):
        raise InputError(
            f"{archive.path}: {name}: expected an array [{', '.join(axes)}], got one of shape {member.shape}"
        )
    if member.dtype.kind not in dtypes:
        wanted = {"iu": "integers, classes counted from 0", "U": "words"}.get(dtypes, "numbers")
        remedy = NUMBER if dtypes == "iu" else "convert and save it again"
        raise InputError(f"{archive.path}: {name}: expected {wanted}, got dtype {member.dtype}; {remedy}")
    return member


def _examples(archive: _Named, n_train: int, n_columns: int) -> Dataset:
    path, labels = archive.path, next(archive.blocks("labels", n_rows=n_columns))
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise InputError(f"{path}: labels: expected 0 to {MAX_CLASSES - 1:,}, got {low} to {high}; {NUMBER}")
    names = tuple(map(str, range(high + 1)))
    if "class_names" in archive.names:
        (n_names,) = archive.member("class_names").shape
        if not high < n_names <= MAX_CLASSES:
            raise InputError(f"{path}: class_names: labels go to {high}, expected {high + 1} names, got {n_names:,}")
        names = tuple(map(str, next(archive.blocks("class_names", n_rows=n_names))))
    if archive.lacks_train("labels"):
        labels, names = np.concatenate([np.full(n_train, len(names)), labels]), (*names, "unknown")
    n_held_out = n_columns - n_train
    return Dataset(
        name=path.stem,
        x_train=np.zeros((n_train, 0), np.float32),
        y_train=labels[:n_train].astype(np.int32),
        x_held_out=np.zeros((n_held_out, 0), np.float32),
        y_held_out=labels[n_train:].astype(np.int32),
        train_ids=np.arange(n_train),
        held_out_ids=np.arange(n_held_out),
        class_names=names,
        source=str(path),
    )


def _holds_shares(archive: _Named, n_columns: int) -> bool:
    """Whether any number in `correct` is neither 0 nor 1, which what is written of its first models already depends on."""
    for name in ("correct", "reference_correct"):
        if name in archive.names and archive.member(name).dtype.kind == "f":
            with closing(archive.blocks(name, n_rows=max(1, BYTES_AT_ONCE // (8 * n_columns)))) as blocks:
                if any(((block > 0) & (block < 1)).any() for block in blocks):
                    return True
    return False


def _blocks(
    archive: _Named, kinds: tuple[OutcomeKind, ...], prefix: str, n_train: int, n_columns: int
) -> Generator[tuple[Array, Outcomes]]:
    """Which rows were filled, and their outcomes, of the models or of the references, in order and whole chunks at a time."""
    names = [f"{prefix}{kind}" for kind in kinds]
    if names[0] not in archive.names:
        return
    n_rows = max(1, BYTES_AT_ONCE // (8 * n_columns))
    first = 0
    with ExitStack() as stack:
        wanted = names if prefix else ["masks", *names]
        streams = [stack.enter_context(closing(archive.blocks(name, n_rows=n_rows))) for name in wanted]
        for blocks in zip(*streams, strict=True):
            filled = np.all([_filled(name, array) for name, array in zip(wanted, blocks, strict=True)], axis=0)
            arrays = {
                name: _checked(archive, name, array, filled, first) for name, array in zip(wanted, blocks, strict=True)
            }
            masks = np.ones((int(filled.sum()), n_train), bool) if prefix else arrays["masks"]
            yield filled, Outcomes(masks, **{kind: arrays[f"{prefix}{kind}"] for kind in kinds})
            first += len(filled)


def _filled(name: str, array: Array) -> Array:
    """Rows that a model filled: those of arrays that were allocated before stay zero or NaN. Few columns may all be wrong."""
    known = array == array  # not NaN
    if name.endswith("correct") and array.shape[1] < MIN_WRONG:
        return known.any(axis=1)
    return (known & (array != 0)).any(axis=1)


def _checked(archive: _Named, name: str, array: Array, filled: Array, first: int) -> Array:
    """Of filled rows outcomes within their range, or masks as bool; `first` is the model of the first row."""
    if name == "masks":
        wrong, expected = (array != 0) & (array != 1), "0 or 1"
    else:
        wrong, expected = wrong_entries("margin" if name.endswith("margin") else "correct", array)
    refuse_entries(f"{archive.path}: {name}", array, wrong & filled[:, None], first, expected)
    return array[filled].astype(bool, copy=False) if name == "masks" else array[filled]
