"""Turns masks and outcomes of models made elsewhere, an .npz file, into a run that can be scored."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from infl.records import Array, Dataset, InputError, OutcomeKind, Outcomes
from infl.records.files import Archive, Member, open_archive
from infl.store.blocks import KINDS
from infl.store.collections import Collection
from infl.store.opening import new_run
from infl.store.run import Run
from infl.store.storage import is_url

REMEDY = "write it with np.savez(path, masks=..., correct=..., labels=...)"
MAX_CLASSES = 1 << 16
BYTES_AT_ONCE = 1 << 26
_COLLECTIONS = (("design", ""), ("full", "reference_"))


def import_outcomes(path: str | os.PathLike[str], *, run: str | os.PathLike[str]) -> Run:
    """Make a run of masks and outcomes that another program wrote; scores, queries and exports read it like any other.

    The file, an .npz, holds

        masks              [T, n] bool or 0/1: which of the n training examples each of T models trained on
        correct            [T, n+m] bool or 0/1: whether it predicts the label, training examples first, held-out ones after
        margin             [T, n+m] finite numbers: log p(y) - max over c != y of log p(c). Beside `correct` or instead of it
        labels             [n+m] integers from 0 on
        class_names        names of the labels; may be left out
        reference_correct, reference_margin   [R, n+m] of models of all n examples; may be left out. With margins they make
                           `infl.predict(..., predictor="additive")` possible

    Margins are kept as float16, as those of infl's own models are. Errors of the scores take the models as independent draws.
    The run holds no pixels and no training algorithm: it cannot be trained on or verified. The file is read in blocks of rows,
    never whole. Until all of it is in place there is no run; an import that fails leaves nothing behind, and after one that
    was killed the same call begins anew.

    path: of the file; run: the folder to make, or a URL on object storage, which is new or empty.

    Raises:
        InputError: where the file is missing, damaged or does not hold this, or the folder holds something.

    Examples:
        >>> import tempfile, infl
        >>> folder = Path(tempfile.mkdtemp())
        >>> masks = np.arange(8)[:, None] >> np.arange(2) & 1 == 1
        >>> np.savez(folder / "mine.npz", masks=masks, correct=np.c_[masks, masks[:, 0]], labels=[0, 1, 0])
        >>> infl.memorization(infl.import_outcomes(folder / "mine.npz", run=folder / "run").outcomes("design")).value
        array([1., 1.])
    """
    path = Path(path).expanduser().absolute()
    with open_archive(path) as archive:
        kinds, n_train, n_columns = _check_shapes(archive)
        dataset = _examples(archive, n_train, n_columns)
        settings = {
            "algorithm": {"network": {"name": "unknown"}},
            "design": {"kind": "imported"},
            "seed": None,
            "outcomes": list(kinds),
            "imported": str(path),
        }
        with new_run(str(run) if is_url(run) else Path(run).expanduser(), dataset, settings) as made:
            for collection, prefix in _COLLECTIONS:
                if prefix and f"{prefix}{kinds[0]}" not in archive.names:
                    continue
                made.add_collection(Collection(collection, {"kind": "full" if prefix else "imported"}))
                first = 0
                with closing(_blocks(archive, kinds, prefix, n_train, n_columns)) as blocks:
                    for outcomes in blocks:
                        models = range(first, first + outcomes.n_models)
                        made.write(collection, models, outcomes, np.ones(len(models), bool), seconds=0.0)
                        first += outcomes.n_models
    return made


def _check_shapes(archive: Archive) -> tuple[tuple[OutcomeKind, ...], int, int]:
    """Kinds of outcomes in the file, n and n+m; everything that headers can tell is right after this."""
    there, path = set(archive.names), archive.path
    kinds: tuple[OutcomeKind, ...] = tuple(kind for kind in KINDS if kind in there)
    missing = [name for name in ("masks", "labels") if name not in there]
    missing += [] if kinds else ["correct or margin"]
    if missing:
        raise InputError(
            f"{path}: expected the arrays masks, labels, and correct or margin; missing {', '.join(missing)}, "
            f"found {', '.join(map(repr, archive.names[:20])) or 'none'}; {REMEDY}"
        )
    masks = _member(archive, "masks", "biuf", "[models, n]")
    n_models, n_train = masks.shape
    labels = _member(archive, "labels", "iu", "[n+m]")
    n_columns = labels.shape[0]
    if not n_models or not n_train or n_columns <= n_train:
        raise InputError(
            f"{path}: expected at least one model, one training example and one held-out example, got masks {masks.shape} "
            f"and {n_columns:,} labels; labels are those of the training examples and then of the held-out ones"
        )
    for kind in kinds:
        outcomes = _member(archive, kind, "biuf", "[models, n+m]")
        if outcomes.shape[0] != n_models:
            raise InputError(
                f"{path}: masks are of {n_models:,} models, {kind} of {outcomes.shape[0]:,}; row t of both belongs to model t"
            )
        _check_width(archive, outcomes, n_columns)
    references = [f"reference_{kind}" for kind in KINDS if f"reference_{kind}" in there]
    if references and references != [f"reference_{kind}" for kind in kinds]:
        raise InputError(
            f"{path}: the models' outcomes are {' and '.join(kinds)}, the references' {' and '.join(references)}; "
            "give both the same kinds, or leave the references out"
        )
    sizes = [_member(archive, name, "biuf", "[models, n+m]") for name in references]
    for member in sizes:
        _check_width(archive, member, n_columns)
    if len({member.shape[0] for member in sizes}) > 1:
        raise InputError(
            f"{path}: {' and '.join(references)} have different numbers of models; row t of both is model t"
        )
    return kinds, n_train, n_columns


def _member(archive: Archive, name: str, dtypes: str, shape: str) -> Member:
    member, n_axes = archive.member(name), shape.count(",") + 1
    if len(member.shape) != n_axes:
        raise InputError(f"{archive.path}: {name}: expected an array {shape}, got one of shape {member.shape}")
    if member.dtype.kind not in dtypes:
        wanted = "integers, classes counted from 0" if dtypes == "iu" else "numbers"
        raise InputError(
            f"{archive.path}: {name}: expected {wanted}, got dtype {member.dtype}; convert and save it again"
        )
    return member


def _check_width(archive: Archive, outcomes: Member, n_columns: int) -> None:
    if outcomes.shape[1] != n_columns:
        raise InputError(
            f"{archive.path}: {outcomes.name} has {outcomes.shape[1]:,} columns and there are {n_columns:,} labels; expected "
            "one of each for every training example and then every held-out one"
        )


def _examples(archive: Archive, n_train: int, n_columns: int) -> Dataset:
    path, labels = archive.path, next(archive.blocks("labels", n_rows=n_columns))
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_CLASSES:
        raise InputError(
            f"{path}: labels: expected 0 to {MAX_CLASSES - 1:,}, got {low} to {high}; count classes from 0"
        )
    names = tuple(map(str, range(high + 1)))
    if "class_names" in archive.names:
        member = _member(archive, "class_names", "U", "[classes]")
        if not high < member.shape[0] <= MAX_CLASSES:
            raise InputError(
                f"{path}: class_names: labels go to {high}, expected {high + 1} names, got {member.shape[0]:,}"
            )
        names = tuple(map(str, next(archive.blocks("class_names", n_rows=member.shape[0]))))
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


def _blocks(
    archive: Archive, kinds: tuple[OutcomeKind, ...], prefix: str, n_train: int, n_columns: int
) -> Generator[Outcomes]:
    """Outcomes of the models, or of the references, in order; whole chunks of the store at a time where they are small."""
    names = [f"{prefix}{kind}" for kind in kinds]
    if names[0] not in archive.names:
        return
    n_rows = max(1, BYTES_AT_ONCE // (8 * n_columns))
    first = 0
    with ExitStack() as open_members:
        wanted = names if prefix else ["masks", *names]
        streams = [open_members.enter_context(closing(archive.blocks(name, n_rows=n_rows))) for name in wanted]
        for blocks in zip(*streams, strict=True):
            arrays = dict(zip(wanted, blocks, strict=True))
            n_models = len(blocks[0])
            masks = np.ones((n_models, n_train), bool) if prefix else _bools(archive, "masks", arrays["masks"], first)
            correct, margin = (arrays.get(f"{prefix}{kind}") for kind in KINDS)
            yield Outcomes(
                masks,
                None if correct is None else _bools(archive, f"{prefix}correct", correct, first),
                None if margin is None else _finite(archive, f"{prefix}margin", margin, first),
            )
            first += n_models


def _bools(archive: Archive, name: str, array: Array, first: int) -> Array:
    if array.dtype == np.bool_:
        return array
    _refuse(archive, name, array, (array != 0) & (array != 1), first, "0 or 1")
    return array.astype(bool)


def _finite(archive: Archive, name: str, array: Array, first: int) -> Array:
    _refuse(archive, name, array, ~np.isfinite(array), first, "finite numbers; clip them")
    return array


def _refuse(archive: Archive, name: str, array: Array, wrong: Array, first: int, expected: str) -> None:
    if wrong.any():
        model, column = map(int, np.argwhere(wrong)[0])
        came = array[model, column].item()
        raise InputError(
            f"{archive.path}: {name}: expected {expected}, got {came} for model {first + model}, column {column}"
        )
