"""What untraining is about: forget sets, their effects, and the regime that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from infl.records.words import Array, InputError, Regime

Others = Literal["harm only", "balanced", "others gain", "unharmed", "unclear"]


@dataclass(frozen=True)
class ForgetSet:
    """Training examples S to forget.

    Attributes:
        ids: At least one id of D, each once, in any order; sorted in the record. A list, a range or an array of integers.
        concept: Ids of the full set of the behaviour that S is part of, where it is known; likewise.

    Raises:
        InputError: where ids are none, no whole numbers, negative or repeated, or the concept lacks one.
    """

    name: str
    ids: tuple[int, ...]
    concept: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        try:
            str(self.name).encode()
        except UnicodeEncodeError as error:
            what = "half a character (a lone surrogate) stands in its name; write it anew"
            raise InputError(f"set {self.name!r}: {what}") from error
        ids = sorted_ids(self.ids, f"set {self.name!r}")
        object.__setattr__(self, "ids", ids)
        if self.concept is not None:
            concept = sorted_ids(self.concept, f"set {self.name!r}, concept")
            object.__setattr__(self, "concept", concept)
            if missing := sorted(set(ids) - set(concept)):
                raise InputError(
                    f"set {self.name!r}: its concept must name every id of the set; {missing[0]} is missing"
                )

    def __repr__(self) -> str:
        concept = "" if self.concept is None else f" of the {len(self.concept):,} of its concept"
        return f"ForgetSet({self.name!r}: {len(self.ids):,} examples{concept})"

    def __len__(self) -> int:
        return len(self.ids)

    def retained(self, n_train: int) -> Array:
        """Mask [n] of D without S."""
        mask = np.ones(n_train, bool)
        mask[list(self.ids)] = False
        return mask


def sorted_ids(given: Any, what: str) -> tuple[int, ...]:
    """Ids in their order, each there once, none below 0; `what` they are of stands in the message of the error."""
    given = given.tolist() if isinstance(given, np.ndarray) else given
    if not isinstance(given, (list, tuple, range)):
        raise InputError(f"{what}: expected a list of ids, got {type(given).__name__}")
    wrong = [i for i in given if isinstance(i, bool) or not isinstance(i, (int, np.integer))]
    if wrong:
        raise InputError(f"{what}: ids must be whole numbers, got {wrong[0]!r}")
    ids = tuple(sorted(int(i) for i in given))
    if not ids:
        raise InputError(f"{what} is empty: name at least one id")
    if len(set(ids)) < len(ids):
        repeated = next(a for a, b in zip(ids, ids[1:], strict=False) if a == b)
        raise InputError(f"{what} repeats id {repeated}: name each id once")
    if ids[0] < 0:
        raise InputError(f"{what} names id {ids[0]}, outside D: ids count from 0")
    return ids


@dataclass(frozen=True)
class Effects:
    """Effect of untraining S on every example, D_j(S) = P_A(D)[correct_j] - P_A(D\\S)[correct_j], predicted or measured.

    Attributes:
        effect: [n+m].
        se: Its standard error, [n+m].
        replicates: [B, n+m] equally good estimates whose mean is `effect` and whose scatter / sqrt(B) is its error. Any
            sum over examples gets its error from the same sum over each replicate, so correlations between examples are
            kept. Measured effects have one replicate per seed, predicted ones one per group of models.
        source: `retrained`, or the name of the predictor.
        n_models: Models the effects rest on.
        covariance: [2, 2] of (self, cross), from a predictor that knows more of its errors than replicates show. Then
            `effect` and `se` are mean and standard deviation of a posterior, and there are no replicates, [0, n+m].
        covered: Largest fraction of S that a model left out at once, for predictors to which that matters.
        n_tokens: [n+m] of how many tokens the outcome of each example is a mean, where effects were measured by shares: the
            least that they can differ by is one over that.
        whole: Effects of untraining all of the concept that S is part of, where S has one and they are known.
        held_out_only: Whether others are the held-out examples alone, as they are for documents; see `cross_weights`.
    """

    forget_set: ForgetSet
    n_train: int
    effect: Array
    se: Array
    replicates: Array
    source: str
    n_models: int
    covariance: Array | None = None
    covered: float = math.nan
    n_tokens: Array | None = None
    whole: Effects | None = None
    held_out_only: bool = False

    def __repr__(self) -> str:
        on_set = self.effect[list(self.forget_set.ids)].mean()
        return (
            f"Effects({self.forget_set.name!r} on {self.effect.size:,} examples: {on_set:.2f} on average in the set; "
            f"{self.source}, {self.n_models:,} models)"
        )


@dataclass(frozen=True, eq=False)
class TokenEffects:
    """Effect of untraining S on each token of one document: P_A(D)[predicted] - P_A(D\\S)[predicted], measured.

    With S the document alone it says which of its words are memorized. The mean over all tokens that are scored is the
    effect on the document.

    Attributes:
        column: The document: a training id, or a held-out one (they go on after).
        forget_set: S.
        effect: [L], one for each token of the document; NaN of those that are not scored: the first, and those of a prompt.
        se: Its standard error, [L], never 0.
        mean_without: Fraction of the models of D\\S that predict the token, [L].
        n_models: Pairs of models, of D and of D\\S.
    """

    column: int
    forget_set: ForgetSet
    effect: Array
    se: Array
    mean_without: Array
    n_models: int

    def __repr__(self) -> str:
        n_sure = int((np.abs(self.effect) > 2 * self.se).sum())
        return (
            f"TokenEffects(of {self.forget_set.name!r} on #{self.column}: {np.nanmean(self.effect):.2f} on average over "
            f"{np.isfinite(self.effect).sum()} tokens, {n_sure} beyond two errors; {self.n_models:,} pairs of models)"
        )


@dataclass(frozen=True)
class Quantity:
    """A number and its standard error."""

    value: float
    se: float

    def __str__(self) -> str:
        """`0.12 ± 0.03`; a third digit where the error would read 0.00, `<0.001` where that is too few; `-` in place of NaN."""
        if math.isnan(self.value):
            return "-"
        digits = 3 if 0 < self.se < 0.005 else 2
        error = "-" if math.isnan(self.se) else "<0.001" if 0 < self.se < 0.0005 else f"{self.se:.{digits}f}"
        return f"{self.value:z.{digits}f} ± {error}"

    def interval(self, level: float = 0.95, *, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """Normal interval at a confidence level, cut off at the range that the quantity can have; NaN without an error."""
        reach = NormalDist().inv_cdf(0.5 + level / 2) * self.se
        if not math.isfinite(reach):
            return math.nan, math.nan
        return max(self.value - reach, min(low, self.value)), min(self.value + reach, max(high, self.value))


@dataclass(frozen=True)
class ConceptGap:
    """How far untraining S is from unlearning the concept that S is a discovered part of.

    Over the held-out examples of the concept, those k with D_k(S_full) >= e, where S_full is all of the concept's examples:

        gap = mean of D_k(S_full) - D_k(S)

    the accuracy on the concept that A(D\\S) has and A(D\\S_full) has not. 0 where the part does what the whole does.

    Attributes:
        n_full: Size of S_full.
        n_held_out: Examples averaged over.
        part: Mean effect of S on them.
        whole: Mean effect of S_full on them.
        value: NaN where unlearning the concept takes e from no held-out example. Its error takes the examples as
            independent.
    """

    n_full: int
    n_held_out: int
    part: float
    whole: float
    value: Quantity


@dataclass(frozen=True)
class Thresholds:
    """Where the regimes part. Infl's own choice: the note that defines the regimes gives none.

    Attributes:
        self_influence: Least self(S) called high.
        cross_influence: Least harm(S) called high, or net cross(S) where that decides.
        effect: Least |D_j(S)| that counts as harm or gain.
        probability: A verdict below it is `undetermined`.
        cross: Whether what others lose is judged by harm, or by net cross, in which gains of some pay for it.

    Raises:
        InputError: for a threshold out of its range.
    """

    self_influence: float = 0.1
    cross_influence: float = 0.1
    effect: float = 0.1
    probability: float = 0.8
    cross: Literal["harm", "net"] = "harm"

    def __post_init__(self) -> None:
        for name in ("self_influence", "cross_influence", "effect"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"threshold {name}: expected a finite number of at least 0, got {getattr(self, name)}")
        if not 0 < self.probability <= 1:
            raise InputError(f"threshold probability: expected a number above 0 and at most 1, got {self.probability}")
        if self.cross not in ("net", "harm"):
            raise InputError(f"threshold cross: expected net or harm, got {self.cross!r}")


@dataclass(frozen=True)
class Verdict:
    """The regime of one forget set with everything it was decided by.

    Attributes:
        probability: Of each of the four regimes; they sum to one, or are NaN where the errors are unknown.
        most_harmed: Ids of the columns outside S with the largest effects, largest first.
        models_needed: Roughly how many models would decide; None when decided, or when none of 4,096 times as many
            would.
        concept_gap: For sets with a concept, where its effects are known.
        held_out_only: Whether cross, harm and gain are of held-out examples alone, as they are for documents.
    """

    forget_set: ForgetSet
    regime: Regime
    probability: dict[str, float]
    self_influence: Quantity
    cross_influence: Quantity
    harm: Quantity
    gain: Quantity
    thresholds: Thresholds
    source: str
    n_models: int
    most_harmed: tuple[int, ...] = ()
    most_harmed_effects: tuple[float, ...] = ()
    models_needed: int | None = None
    note: str = ""
    concept_gap: ConceptGap | None = None
    held_out_only: bool = False

    def __repr__(self) -> str:
        surest = max(self.probability.values(), default=math.nan)
        return (
            f"Verdict({self.forget_set.name!r}: {self.regime}, p {surest:.2f}; self {self.self_influence}, "
            f"cross {self.cross_influence}, harm {self.harm}, gain {self.gain}; others: {self.others}; "
            f"{self.source}, {self.n_models:,} models)"
        )

    @property
    def others(self) -> Others:
        """What untraining the set does to the other examples, whatever the regime is decided by.

        `others gain` where net cross is below minus its threshold, or only gain reaches the threshold; `harm only` where only
        harm reaches it; `balanced` where both do; `unharmed` where neither does; each with the wanted probability, by normal
        errors. `unclear` where the errors leave it open.
        """
        wanted, threshold = min(self.thresholds.probability, 0.9999), self.thresholds.cross_influence
        (net, harm, gain), reach = (self.cross_influence, self.harm, self.gain), NormalDist().inv_cdf(wanted)
        if net.value + reach * net.se < -threshold:
            return "others gain"
        high = [one.value - reach * one.se >= threshold for one in (harm, gain)]
        low = [one.value + reach * one.se < threshold for one in (harm, gain)]
        if not all(a or b for a, b in zip(high, low, strict=True)):
            return "unclear"
        if high[1]:
            return "balanced" if high[0] else "others gain"
        return "harm only" if high[0] else "unharmed"
