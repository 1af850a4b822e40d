"""Turns (design, seed, model id) into the mask of training examples that the model trains on.

A mask has no state and no order: any machine can draw the mask of any model, and extending a run never changes the masks
it has. Random bits come from NumPy's Philox counter generator, whose raw stream is fixed across versions.

- `uniform`   every subset of a size is equally likely; the size is a fraction of n, or drawn from a range of fractions;
- `balanced`  as uniform for each single model, but every example is in exactly the wanted fraction of the models;
- `paired`    a random half, then its complement; contrasts of single examples take 1.3 times the models of `uniform`
              (digits, `experiments/scores`), since what the others teach is in one half and missing from the other;
- `grouped`   whole groups of examples, or random fractions of them, left out; half of the models leave out nothing else, as
              forget sets do, the others are filled up with uniform leave-outs to a size drawn from a range: what
              redundant sets do when they are gone together shows in no other design;
- `full`      all of D: the models that effects are measured from;
- `leave-out` D without a given set: the models that verify a forget set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np

from infl.records import Array, Groups, InputError

Kind = Literal["uniform", "balanced", "paired", "grouped", "full", "leave-out"]

MAX_MODELS_PER_PERIOD = 20  # a balanced design repeats after at most this many models
WHOLE_GROUP = 0.5  # chance that a group is left out whole rather than in part
ALONE = 0.5  # chance that nothing but a group is left out; forget sets are D without it, not 70% of D without it
ANOTHER_GROUP = 0.7  # chance that, as long as they fit, one more group is left out


@dataclass(frozen=True)
class Design:
    """How the subset of each model is drawn.

    Attributes:
        kind: See the module's list.
        fraction: Fraction r of D that a model trains on, or a range (low, high) that each model draws its own from. Within
            (0, 1); `paired` takes 0.5 only, `full` and `leave-out` ignore it. Of a range, `grouped` models that leave
            out a group alone keep to the lower end only. None becomes the usual one of the kind: (0.7, 0.97) for
            `grouped`, 0.5 for `paired`, 0.7 for the others.
        left_out: Ids that `leave-out` leaves out.
        groups: What `grouped` leaves out together; None for `infl.train` to find them.
        grouped_share: Fraction of the models of a `grouped` run that are drawn so; the others are `uniform` over the same
            range of fractions, so that scores of single examples can rest on them.

    Raises:
        InputError: for an unknown kind, or a fraction that the kind cannot have.

    Examples:
        >>> masks = draw_masks(Design("balanced", 0.7), range(10), n_train=100, seed=0)
        >>> masks.sum(axis=0).min(), masks.sum(axis=0).max()  # every example is in 7 of the 10 models
        (np.int64(7), np.int64(7))
    """

    kind: Kind = "grouped"
    fraction: float | tuple[float, float] | None = None
    left_out: tuple[int, ...] = ()
    groups: Groups | None = None
    grouped_share: float = 0.5

    def __post_init__(self) -> None:
        if self.fraction is None:
            object.__setattr__(self, "fraction", {"grouped": (0.7, 0.97), "paired": 0.5}.get(self.kind, 0.7))
        if self.kind != "grouped" and self.groups is not None:
            raise InputError(f"design {self.kind} takes no groups; use design grouped")
        if self.kind != "grouped" and self.grouped_share != 0.5:
            raise InputError(f"grouped_share is a setting of design grouped, and the design is {self.kind}")
        if not 0 < self.grouped_share <= 1:
            raise InputError(f"grouped_share: expected a fraction above 0 and at most 1, got {self.grouped_share}")
        if self.kind not in get_args(Kind):
            raise InputError(f"design: expected one of {', '.join(get_args(Kind))}; got {self.kind!r}")
        if self.kind == "leave-out" and not self.left_out:
            raise InputError("design leave-out: name at least one id to leave out; all of D is design full")
        if self.kind in ("full", "leave-out"):
            return
        low, high = self.range
        if not 0 < low <= high < 1:
            raise InputError(f"fraction: expected a fraction above 0 and below 1 (or LOW:HIGH), got {self.fraction}")
        if self.kind == "paired" and (low, high) != (0.5, 0.5):
            raise InputError(f"design paired trains complementary halves: fraction must be 0.5, got {self.fraction}")
        if self.kind == "balanced":
            self._ratio()

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest fraction."""
        if isinstance(self.fraction, (int, float)):
            return self.fraction, self.fraction
        if self.fraction is None or len(self.fraction) != 2:
            raise InputError(f"fraction: expected a fraction or a range (low, high), got {self.fraction}")
        return self.fraction[0], self.fraction[1]

    @property
    def period(self) -> int:
        """Models after which every example has been in its exact fraction of them."""
        if self.kind == "balanced":
            return self._ratio()[1]
        return 2 if self.kind == "paired" else 1

    def to_dict(self) -> dict[str, Any]:
        """The design as JSON; of groups their names and fingerprint."""
        low, high = self.range
        fraction = low if isinstance(self.fraction, (int, float)) else [low, high]
        description: dict[str, Any] = {"kind": self.kind, "fraction": fraction}
        if self.period > 1:
            description["period"] = self.period
        if self.kind == "grouped":
            description["grouped_share"] = self.grouped_share
        if self.groups is not None:
            description["groups"] = {"names": list(self.groups.names), "sha256": self.groups.fingerprint()}
        return description

    @staticmethod
    def from_dict(description: dict[str, Any], groups: Groups | None = None) -> Design:
        """The inverse of `to_dict`; groups, where the design has any, are kept elsewhere and brought back here."""
        fraction = description.get("fraction")  # which full has none of
        fraction = tuple(fraction) if isinstance(fraction, list) else fraction
        if description["kind"] != "grouped":
            return Design(description["kind"], fraction)
        return Design("grouped", fraction, groups=groups, grouped_share=description["grouped_share"])

    def parts(self, n_models: int) -> dict[str, tuple[Design, int]]:
        """Collection -> (design, number of models): `design` alone, or with `grouped` beside it."""
        if self.kind != "grouped":
            return {"design": (self, n_models)}
        n_grouped = round(self.grouped_share * n_models)
        uniform = Design("uniform", self.fraction)
        return {"design": (uniform, n_models - n_grouped), "grouped": (self, n_grouped)}

    def _ratio(self) -> tuple[int, int]:
        if not isinstance(self.fraction, (int, float)):
            raise InputError(f"design balanced takes one fraction, got the range {self.fraction}; use design uniform")
        least = Fraction(1, MAX_MODELS_PER_PERIOD)
        ratio = min(max(Fraction(self.fraction).limit_denominator(MAX_MODELS_PER_PERIOD), least), 1 - least)
        if abs(float(ratio) - self.fraction) > 1e-6:
            raise InputError(
                f"design balanced needs a fraction p/q with q <= {MAX_MODELS_PER_PERIOD}, got {self.fraction}; "
                f"nearest: {ratio} = {float(ratio):.6g}, or use design uniform"
            )
        return ratio.numerator, ratio.denominator


def parse_fraction(text: str) -> float | tuple[float, float]:
    """Read `0.7` or `0.7:0.97`."""
    try:
        fractions = [float(part) for part in text.split(":")]
    except ValueError:
        fractions = []
    if len(fractions) == 1:
        return fractions[0]
    if len(fractions) == 2:
        return fractions[0], fractions[1]
    raise InputError(f"fraction: expected a fraction such as 0.7 or a range such as 0.7:0.97, got {text!r}")


def draw_masks(design: Design, model_ids: Sequence[int], *, n_train: int, seed: int) -> Array:
    """Draw which examples each model trains on.

    Returns [len(model_ids), n_train] bool. Row k depends on (design, seed, model_ids[k], n_train) alone. No subset is
    empty or, but for `full`, all of D. Sizes are round(fraction * n); where the period of a `balanced` design does not
    divide n, its models differ from that by at most n mod period.

    Raises:
        InputError: where n_train is too small for the design, or a left-out id is not in D.
    """
    if not len(model_ids):
        return np.zeros((0, n_train), bool)
    if design.kind == "full":
        return np.ones((len(model_ids), n_train), bool)
    if n_train < 2:
        raise InputError(f"a subset of D needs at least 2 training examples, got {n_train}")
    if design.kind == "leave-out":
        return np.tile(_leave_out(design.left_out, n_train), (len(model_ids), 1))
    if design.kind == "balanced":
        return _balanced(design, model_ids, n_train, seed)
    if design.kind == "grouped" and design.groups is None:
        raise InputError("design grouped: name the groups to leave out, or let infl.train find them")
    if design.groups is not None and design.groups.tables.shape[1] != n_train:
        raise InputError(
            f"groups: expected one entry for each of {n_train} training examples, got {design.groups.tables.shape[1]}"
        )
    draw = {"uniform": _uniform, "paired": _paired, "grouped": _grouped}[design.kind]
    return np.stack([draw(design, int(model), n_train, seed) for model in model_ids])


def _uniform(design: Design, model: int, n_train: int, seed: int) -> Array:
    bits = _random_bits("uniform", seed, model, n_train + 1)
    low, high = design.range
    fraction = low + (high - low) * (float(bits[-1]) / 2.0**64)
    return _smallest(bits[:-1], _subset_size(fraction, n_train))


def _paired(design: Design, model: int, n_train: int, seed: int) -> Array:
    half = _smallest(_random_bits("paired", seed, model // 2, n_train), n_train // 2)
    return ~half if model % 2 else half


def _balanced(design: Design, model_ids: Sequence[int], n_train: int, seed: int) -> Array:
    n_in, period = design._ratio()
    if n_train < period:
        raise InputError(f"design balanced at {n_in}/{period} needs n >= {period} training examples, got {n_train}")
    periods = {int(model) // period for model in model_ids}
    masks = {index: _balanced_period(index, n_in, period, n_train, seed) for index in periods}
    return np.stack([masks[int(model) // period][int(model) % period] for model in model_ids])


def _balanced_period(index: int, n_in: int, period: int, n_train: int, seed: int) -> Array:
    # Examples are shuffled and dealt into groups of `period`. In a group, row k of a circulant 0/1 matrix says which
    # models example k is in: n_in ones per row and per column. Its columns are shuffled anew for each group, so that
    # the inclusion patterns of two examples are independent unless they share a group.
    n_groups = -(-n_train // period)
    bits = _random_bits("balanced", seed, index, n_train + n_groups * period)
    shuffled = np.argsort(bits[:n_train], kind="stable")
    columns = np.argsort(bits[n_train:].reshape(n_groups, period), axis=1, kind="stable")
    circulant = (np.arange(period)[:, None] + np.arange(period)[None, :]) % period < n_in
    patterns = circulant[:, columns].transpose(1, 0, 2).reshape(n_groups * period, period)[:n_train]
    masks = np.empty((period, n_train), bool)
    masks[:, shuffled] = patterns.T
    return masks


def _grouped(design: Design, model: int, n_train: int, seed: int) -> Array:
    # Resolutions take turns, and within one its groups: after as many visits as it has groups each was first once. As any
    # group of a resolution is as likely as another, whatever its size, examples in a group at every resolution are left
    # out about equally often.
    assert design.groups is not None
    tables = design.groups.tables
    bits = _random_bits("grouped", seed, model, 2 * n_train + 4)
    draws = np.random.RandomState(bits[-4:].astype(np.uint32))
    priority, fill_priority = bits[:n_train], bits[n_train : 2 * n_train]
    low, high = design.range
    most = max(n_train - _subset_size(low, n_train), 1)
    n_out = n_train - _subset_size(low + (high - low) * draws.random_sample(), n_train)

    visit, resolution = divmod(model, len(tables))
    n_groups = int(tables[resolution].max()) + 1
    group = _turn(seed, resolution, visit, n_groups)
    out = _part(np.flatnonzero(tables[resolution] == group), priority, most, draws)
    left_out = np.zeros(n_train, bool)
    left_out[out] = True
    if draws.random_sample() < ALONE and low < high:
        return ~left_out
    n_out = max(n_out, len(out))  # a large group is left out whole where the range lets it be
    while draws.random_sample() < ANOTHER_GROUP:
        resolution = draws.randint(len(tables))
        group = draws.randint(int(tables[resolution].max()) + 1)
        members = np.flatnonzero((tables[resolution] == group) & ~left_out)
        out = _part(members, priority, most, draws)
        if left_out.sum() + len(out) > n_out:
            break
        left_out[out] = True
    rest = np.flatnonzero(~left_out)
    left_out[rest[np.argsort(fill_priority[rest], kind="stable")[: n_out - left_out.sum()]]] = True
    return ~left_out


def _turn(seed: int, resolution: int, visit: int, n_groups: int) -> int:
    """Which group of a resolution comes first in its `visit`-th model: every group once per round, in a fresh order."""
    order = np.argsort(_random_bits(f"turn{resolution}", seed, visit // n_groups, n_groups), kind="stable")
    return int(order[visit % n_groups])


def _part(members: Array, priority: Array, most: int, draws: np.random.RandomState) -> Array:
    """All of the members, or a random fraction of them; never more than `most`."""
    size = len(members) if draws.random_sample() < WHOLE_GROUP else round(draws.random_sample() * len(members))
    if size > most:
        size = round(draws.random_sample() * most)
    return members[np.argsort(priority[members], kind="stable")[: max(size, min(len(members), 1))]]


def _leave_out(ids: Sequence[int], n_train: int) -> Array:
    outside = [i for i in ids if not 0 <= i < n_train]
    if outside:
        raise InputError(f"leave-out: ids {outside[:5]} are not in D (0..{n_train - 1})")
    mask = np.ones(n_train, bool)
    mask[list(ids)] = False
    if not mask.any():
        raise InputError("leave-out: the set is all of D; nothing is left to train on")
    return mask


def _subset_size(fraction: float, n_train: int) -> int:
    return min(max(round(fraction * n_train), 1), n_train - 1)


def _smallest(bits: Array, size: int) -> Array:
    mask = np.zeros(len(bits), bool)
    mask[np.argsort(bits, kind="stable")[:size]] = True
    return mask


def _random_bits(stream: str, seed: int, counter: int, size: int) -> Array:
    """64 random bits per entry from Philox under key (seed, stream), at a counter of its own."""
    key = np.array([seed % 2**64, int.from_bytes(stream.encode()[:8], "little")], np.uint64)
    return np.random.Philox(key=key, counter=[0, 0, 0, counter]).random_raw(size)


def covering_design(design: Design, groups: Groups) -> Design:
    """The design of models that leave out given sets, or parts of them, in a run of another design."""
    return Design("grouped", (min(design.range[0], 0.7), 0.99), groups=groups)
