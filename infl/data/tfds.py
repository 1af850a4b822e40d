"""A data set of TensorFlow Datasets (TFDS), prepared as array_record, becomes a `Dataset`; TensorFlow is not needed to read it.

What is read is what lies in TFDS's folder, ~/tensorflow_datasets or $TFDS_DATA_DIR: nothing is downloaded, and the code that
made the data is not run.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from infl.data.arrays import from_arrays, prefix_errors
from infl.data.splits import held_out_name
from infl.records import Array, Dataset, InputError, first_line

FORM = "tfds:NAME[/CONFIG][:VERSION][:TRAIN[:HELD_OUT]]"
INSTALL = "pip install 'infl[tfds]', or in infl's folder pip install '.[tfds]'"
FORMAT = "array_record"
VERSION = re.compile(r"[\d*]+\.[\d*]+\.[\d*]+")
NAME = re.compile(r"\w+(/[\w.+-]+)?")
COLON_OUTSIDE_BRACKETS = re.compile(r":(?![^\[]*\])")
NUMBER_AT_THE_END = re.compile(rb"(?<!\d)\d{1,18}$")
NUMBERING = ("index", "id")  # features that may say where in its source an example stands


def load(name: str) -> Dataset:
    """Load the splits of a prepared data set that has an image, or any array of one shape, and a label.

    Image and label are the data set's supervised keys, or its features `image` and `label`; pixels stay as they are stored
    (images: uint8 [h, w, channels]). Classes have the names of the label feature.

    Order and ids: TFDS shuffles examples as it writes them, always the same way. Where a feature `index` or `id` numbers
    them (an integer, or a text that ends in one, as CIFAR's "train_00017"), that number is their id, and they come in its
    order, that of the original publication. Otherwise, and for builders that do not shuffle, they come in the order in which
    they are stored; without a number their id is the position in it.

    Args:
        name: `NAME` or `NAME/CONFIG`, with a `:VERSION` behind it or not (default: the newest prepared one); then `:TRAIN` or
            `:TRAIN:HELD_OUT` in TFDS's language of splits, as in `cifar10:train[:10000]` or `cifar10:train[:80%]:train[80%:]`.
            TRAIN is `train` by default, HELD_OUT `test`, or `validation` where there is no test. The two may not overlap.

    Raises:
        InputError: where tensorflow-datasets is not installed, the data set is unknown, not prepared, or prepared in another
            format (with the command that prepares it), where a split is unknown, splits overlap, there is no image or label,
            images have several sizes, or files are damaged.
    """
    full_name, *wanted = COLON_OUTSIDE_BRACKETS.split(name)
    version = wanted.pop(0) if wanted and VERSION.fullmatch(wanted[0]) else None
    if not NAME.fullmatch(full_name) or len(wanted) > 2 or not all(wanted):
        raise InputError(f"tfds:{name}: expected {FORM}, as in tfds:mnist or tfds:cifar10:train[:80%]:test")
    tfds = _import()
    with _quiet():
        builder = _prepared(tfds, full_name, version)
        splits = _splits(builder, *wanted)
        image, label = _keys(builder)
        (*train, ids), (*held_out, held_out_ids) = (_read(builder, split, image, label) for split in splits)
    read_as = f" ({splits[0]} is read as x_train and y_train, {splits[1]} as x_held_out and y_held_out)"
    with prefix_errors(f"tfds:{name}", read_as):
        return from_arrays(
            *train,
            *held_out,
            name=full_name.replace("/", "-"),
            class_names=getattr(builder.info.features[label], "names", None) or None,
            train_ids=ids,
            held_out_ids=held_out_ids,
            source=f"tfds:{full_name}:{builder.info.version}:{':'.join(splits)}",
        )


def _import() -> Any:
    try:
        tfds = import_module("tensorflow_datasets")
        for needed in ("array_record.python.array_record_data_source", "importlib_resources"):
            import_module(needed)
    except ImportError as error:
        raise InputError(f"tfds: reading TensorFlow Datasets takes an extra of infl ({error}): {INSTALL}") from error
    return tfds


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS's bars, its lines on stdout and absl's advice."""
    logging, bars = import_module("absl.logging"), import_module("tensorflow_datasets.core.utils.tqdm_utils")
    verbosity, shown = logging.get_verbosity(), getattr(bars, "_active", True)
    logging.set_verbosity(logging.ERROR)
    bars.display_progress_bar(False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        bars.display_progress_bar(shown)


def _prepared(tfds: Any, full_name: str, version: str | None) -> Any:
    """The builder that reads the files that are there."""
    files = import_module("tensorflow_datasets.core.read_only_builder")
    folder = os.environ.get("TFDS_DATA_DIR")  # TFDS itself looks once, when it is imported
    place = {"data_dir": os.path.abspath(os.path.expanduser(folder))} if folder else {}
    try:
        builder = files.builder_from_files(full_name + (f":{version}" if version else ""), **place)
        formats = {form.value for form in builder.info.available_file_formats()}
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"tfds:{full_name}{_what_is_missing(tfds, full_name, version, place)}") from error
    except Exception as error:  # of many kinds: from the disk, json, protobuf, and ValueErrors of TFDS's own
        raise InputError(
            f"tfds:{full_name} cannot be opened ({first_line(error)}); if its folder is damaged, prepare it again"
        ) from error
    if FORMAT not in formats:
        raise InputError(
            f"tfds:{full_name} lies in {builder.data_dir} as {', '.join(sorted(formats))}, which takes TensorFlow to read; "
            f"delete that folder and prepare it as {FORMAT}: {_command(full_name, place)}"
        )
    return builder


def _what_is_missing(tfds: Any, full_name: str, version: str | None, place: Mapping[str, str]) -> str:
    folders = import_module("tensorflow_datasets.core.utils.file_utils").list_data_dirs(place.get("data_dir"))
    if prepared := [str(path) for folder in folders for path in sorted(Path(folder, full_name).glob("*"))]:
        wanted = f"version {version}" if version else "it"
        return f": {wanted} is not among what is prepared of it: {', '.join(prepared)}"
    where, base = " or ".join(map(str, folders)), full_name.split("/")[0]
    known = tfds.list_builders(with_community_datasets=False)
    if base not in known:
        near = difflib.get_close_matches(base, known, n=1, cutoff=0.7)
        guess = f"; did you mean tfds:{near[0]}?" if near else ""
        return f": TFDS knows no data set of this name, and none is prepared in {where}{guess}"
    return (
        f" is not prepared in {where}. Preparing it takes TensorFlow, once and on any machine, reading it does not: "
        f"{_command(full_name, place)}"
    )


def _command(full_name: str, place: Mapping[str, str]) -> str:
    """What a shell is told to prepare a data set of TFDS."""
    folder = f" --data_dir={shlex.quote(place['data_dir'])}" if place else ""
    packages = "tensorflow tensorflow-datasets array_record importlib_resources"
    return f"pip install {packages} && tfds build {shlex.quote(full_name)} --file_format={FORMAT}{folder}"


def _splits(builder: Any, train: str = "train", held_out: str | None = None) -> tuple[str, str]:
    there = list(builder.info.splits)
    held_out = held_out or held_out_name(there)
    if held_out is None:
        raise InputError(
            f"tfds:{builder.name}: expected a split test or validation, found {', '.join(there)}; say what to hold out, as in "
            f"tfds:{builder.name}:train[:80%]:train[80%:]"
        )
    parts: list[tuple[str, int, int]] = []
    for split in (train, held_out):
        try:
            parts += [
                (part.filename, part.skip, part.skip + part.take)
                for part in builder.info.splits[split].file_instructions
            ]
        except Exception as error:  # KeyError, ValueError, AssertionError ...: whatever the slip in TFDS's language is
            raise InputError(
                f"tfds:{builder.name}: no split {split!r}: there are {', '.join(there)}, slices as train[:80%] and sums as "
                f"train+test ({first_line(error)})"
            ) from error
    shared = sum(max(0, min(a[2], b[2]) - max(a[1], b[1])) for a, b in combinations(parts, 2) if a[0] == b[0])
    if shared:
        raise InputError(
            f"tfds:{builder.name}: {shared} examples would be there twice in {train} and {held_out}; name splits that do not "
            f"overlap, as in tfds:{builder.name}:train[:80%]:train[80%:]"
        )
    return train, held_out


def _keys(builder: Any) -> tuple[str, str]:
    """Names of the features to read as pixels and label."""
    features = builder.info.features
    image, label = builder.info.supervised_keys if len(builder.info.supervised_keys or ()) == 2 else ("image", "label")
    known = image in features and label in features
    if (
        not known
        or not _kind(features[image])
        or features[label].shape != ()
        or _kind(features[label]) not in ("u", "i")
    ):
        listed = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise InputError(
            f"tfds:{builder.name}: expected an image, or another array of numbers, and one integer label, got {listed}; "
            "bring other data as an .npz"
        )
    return image, label


def _kind(feature: Any) -> str:
    """NumPy's letter of the kind of its numbers; empty where it is no array of numbers."""
    dtype = getattr(feature, "np_dtype", None)
    kind = np.dtype(dtype).kind if dtype is not None and isinstance(getattr(feature, "shape", None), tuple) else ""
    return kind if kind in "buif" else ""


def _read(builder: Any, split: str, image: str, label: str) -> tuple[Array, Array, Array]:
    """Pixels, labels and ids of a split, in the order of its source."""
    numbering = next((name for name in NUMBERING if name in builder.info.features), None)
    pixels, labels, numbers = [], [], []
    try:
        for example in builder.as_data_source(split, file_format=FORMAT):
            pixels.append(np.asarray(example[image]))
            labels.append(int(example[label]))
            numbers.append(_number(example[numbering]) if numbering else None)
    except Exception as error:  # of many kinds: array_record's own, protobuf, Pillow
        raise InputError(
            f"tfds:{builder.name}: {split} in {builder.data_dir} cannot be read ({first_line(error)}); if files are damaged, "
            "delete that folder and prepare it again"
        ) from error
    other = next((k for k, one in enumerate(pixels) if one.shape != pixels[0].shape), None)
    if other is not None:
        raise InputError(
            f"tfds:{builder.name}: expected images of one size, got {pixels[0].shape} first and {pixels[other].shape} at "
            f"position {other} of {split}; scale them and bring them as an .npz, or as folder:DIR:HEIGHTxWIDTH"
        )
    ids = np.arange(len(labels))
    if None not in numbers and len(set(numbers)) == len(numbers) and min(numbers, default=0) >= 0:
        ids = np.array(numbers, np.int64)
    order = np.arange(len(labels)) if builder.info.disable_shuffling else np.argsort(ids)
    return np.array([pixels[k] for k in order]), np.array(labels, np.int64)[order], ids[order]


def _number(value: Any) -> int | None:
    """The number that an integer is or a text ends in."""
    if isinstance(value, bytes):
        match = NUMBER_AT_THE_END.search(value)
        return int(match[0]) if match else None
    return int(value) if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "ui" else None
