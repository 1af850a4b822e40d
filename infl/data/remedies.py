"""Says how arrays that are refused become ones that are not, after a look at their values: no line it names loses data.

Lines of code stand in backticks. Labels are numbered in both parts together, since a part that lacks a class would be
numbered otherwise than the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infl.records import Array, InputError

MAX_NAMED = 5
SPLIT = "y_train, y_held_out = np.split(y, [len(y_train)])"
NUMBER = (
    "number them in both parts together: "
    f"`classes, y = np.unique(np.r_[y_train, y_held_out], return_inverse=True); {SPLIT}; class_names = "
)
RENUMBER = f"{NUMBER}classes.astype(str)`"
RENUMBER_NAMED = f"{NUMBER}[class_names[k] for k in classes]`"
CLASSES_NOT_AMOUNTS = "amounts are targets=... of infl.from_arrays and of a task of your own; if these are classes,"


def as_array(name: str, given: ArrayLike | None) -> Array:
    """The array, of any dtype; what NumPy would take apart or read without its mask is refused."""
    if hasattr(given, "toarray"):
        raise InputError(
            f"{name}: expected an array, got a sparse one ({type(given).__name__}); `{name} = {name}.toarray()`"
        )
    if np.ma.is_masked(given):
        raise InputError(
            f"{name}: expected a number everywhere, got {np.ma.count_masked(given)} masked entries; fill them, or leave "
            "their examples out"
        )
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{name}: expected an array, got something NumPy cannot make one of: {error}") from error
    if array.ndim == 0 and array.dtype.kind in "OUS":
        raise InputError(f"{name}: expected an array, got {type(given).__name__}; load or convert it first")
    return array


def not_numbers(name: str, given: ArrayLike, array: Array) -> str:
    """What is wrong with pixels or features of objects or text, and what to do."""
    import pandas as pd  # here, since only mistakes need it

    if array.dtype.kind not in "OUS":
        return f"{name}: expected numbers (uint8, or anything that fits float32), got dtype {array.dtype}"
    if array.ndim == 1 and (shapes := {np.shape(one) for one in array}) != {()}:
        if len(shapes) == 1:
            return f"{name}: expected one array, got an array of {len(array)} arrays; `{name} = np.stack({name})`"
        return f"{name}: expected one shape for every example, got {listed(sorted(shapes))}; cut or pad them to one"
    framed = hasattr(given, "columns")
    columns: Any = given if framed else pd.DataFrame(array.reshape(len(array), -1))
    columns = columns.astype(object)
    to_numeric: Any = pd.to_numeric
    if text := [c for c, values in columns.items() if to_numeric(values.dropna(), errors="coerce").isna().any()]:
        if unlike := [c for c in text if not _are_categories(columns[c].dropna().tolist())]:
            return (
                f"{name}: expected numbers, got columns of neither numbers nor categories ({listed(unlike)}), with values such "
                f"as {shortened(columns[unlike[0]].dropna().iloc[0])}; make numbers of them, or leave them out (pictures are "
                "read by folder:DIR)"
            )
        both = "pandas.concat([x_train, x_held_out])" if framed else "pandas.DataFrame(np.r_[x_train, x_held_out])"
        return (
            f"{name}: expected numbers, got columns that hold none ({listed(text)}); encode those of both parts together: "
            f"`x = pandas.get_dummies({both}, columns={text}, dtype=float); "
            "x_train, x_held_out = x[: len(x_train)], x[len(x_train) :]`"
        )
    if missing := int(columns.isna().any(axis=1).sum()):
        return (
            f"{name}: expected a number everywhere, got none (NA, None) in {missing} of {len(array)} examples; fill them with "
            "a constant, or leave these examples out"
        )
    return f"{name}: expected numbers, got them as {array.dtype}; `{name} = np.asarray({name}).astype(np.float32)`"


def two_dtypes(pixels: Array, held_out_pixels: Array) -> str:
    """What to do where one part is uint8, and the other is numbers that count as they are."""
    bytes_are, other = "x_train", ("x_held_out", held_out_pixels)
    if held_out_pixels.dtype == np.uint8:
        bytes_are, other = "x_held_out", ("x_train", pixels)
    name, values = other
    if values.min() >= 0 and 1 < values.max() < 256 and (values == np.trunc(values)).all():
        remedy = f"`{name} = np.asarray({name}).astype(np.uint8)`"
    else:
        remedy = f"if {name} is in 0..1, `{bytes_are} = np.asarray({bytes_are}).astype(np.float32) / 255`"
    return (
        f"expected one dtype in x_train and x_held_out, got {pixels.dtype} and {held_out_pixels.dtype}: uint8 counts "
        f"as divided by 255, other numbers as they are; {remedy}"
    )


def several_labels(name: str, array: Array, n_examples: int) -> str:
    """What labels of more than one axis hold, and what to do."""
    start = f"{name}: expected one label per example, shape ({n_examples},), got {array.shape}"
    column = f"`{name} = np.asarray({name})[:, 0]` takes the first alone"
    if array.ndim != 2:
        return f"{start}; labels of parts of an example are not supported"
    if array.shape[1] == 1:
        return f"{start}; `{name} = np.asarray({name}).ravel()`"
    if array.dtype.kind not in "buif":
        return f"{start}; several labels for one example are not supported; {column}"
    if n_missing := int(np.isnan(array).any(axis=1).sum()):
        return f"{start}, with NaN in {n_missing} rows; leave these examples out of labels and pixels alike"
    values = np.unique(array)
    if len(values) == 2:
        n_labels = (array == values[1]).sum(axis=1)
        if (n_labels == 1).all():
            return f"{start}, each row with one {values[1]}; `{name} = np.asarray({name}).argmax(axis=1)`"
        return (
            f"{start}, rows with {n_labels.min()} to {n_labels.max()} labels; several labels for one example are not "
            f"supported: make a data set for each of them; {column}"
        )
    if (array >= 0).all() and np.allclose(array.sum(axis=1), 1):
        return f"{start}, rows of probabilities; these are not supported as labels, and their argmax loses all but one"
    return f"{start}; several targets for one example are not supported; {column}"


def not_integers(name: str, array: Array) -> str:
    """What labels of another dtype hold, and what to do."""
    import pandas as pd

    start = f"{name}: expected integer labels 0..c-1"
    if len(missing := np.flatnonzero(pd.isna(array))):
        return (
            f"{start}, got none (NaN, None) for {len(missing)} of {len(array)} examples, the first at {missing[0]}; "
            f"leave these out, as in `keep = ~pandas.isna({name}); {name}, {_x(name)} = {name}[keep], {_x(name)}[keep]`"
        )
    if array.dtype == object:
        types = {type(label) for label in array}
        if len(types) > 1 and any(issubclass(one, (str, bytes)) for one in types):
            return (
                f"{start}, got values of several types ({listed(sorted(t.__name__ for t in types))}); give all one type"
            )
        array = np.array(array.tolist())
    values = np.unique(array)
    if array.dtype.kind in "biuf":
        whole = np.isfinite(values).all() and (values == np.trunc(values)).all()
        if whole and (name != "y_train" or (values == np.arange(len(values)) + (values[0] == 1)).all()):
            return f"{start}, got them as {array.dtype}; `{name} = np.asarray({name}).astype(int)`"
    if array.dtype.kind in "iufc":
        return (
            f"{start}, got {len(values):,} numbers from {values[0]} to {values[-1]}; {CLASSES_NOT_AMOUNTS} {RENUMBER}"
        )
    return f"{start}, got {len(values):,} values such as {str(array[0])!r}; {RENUMBER}"


def negative_labels(name: str, array: Array) -> str:
    """What to do about labels below 0: they are a class, or mark examples that have none."""
    low, n_below = array.min(), int((array < 0).sum())
    start = f"{name}: expected labels 0..c-1, got {low} ({n_below} of {len(array)} are below 0)"
    if low < -1 or 0 not in array:
        return f"{start}; {RENUMBER}"
    unlabelled = f"`keep = {name} >= 0; {name}, {_x(name)} = {name}[keep], {_x(name)}[keep]`"
    return (
        f"{start}; if -1 is a class, {RENUMBER}; if it says that there is no label, leave these out, as in {unlabelled}"
    )


def _x(name: str) -> str:
    return name.replace("y", "x", 1)


def _are_categories(values: list[Any]) -> bool:
    """Words, each of them twice on average."""
    return all(isinstance(one, (str, bytes)) for one in values) and 2 * len(set(values)) <= len(values)


def shortened(value: Any) -> str:
    """As Python writes it, on one line of at most 40 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def listed(values: Sequence[Any]) -> str:
    """The first of them, each as Python writes it."""
    return ", ".join(map(repr, values[:MAX_NAMED])) + (", ..." if len(values) > MAX_NAMED else "")
