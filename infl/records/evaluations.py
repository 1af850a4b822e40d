"""What is said of an unlearning method: how far its models are from those that they should be, and what follows from that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from infl.records.verdicts import ForgetSet, Quantity, Verdict

Judgement = Literal["untrains", "unlearns the concept", "both", "neither", "undetermined"]
Direction = Literal["too little", "too much", "in between", "other", ""]
MetricName = Literal[
    "shift", "ks", "energy", "klom", "tug-of-war", "epsilon", "competition", "u-lira", "relative", "membership"
]
GROUPS = ("set", "concept", "retained", "affected", "other")


@dataclass(frozen=True)
class GroupDistance:
    """One group of examples; `set`: S, `concept`: the rest of S_full, `retained`: the rest of D, `affected` and `other`: H.

    Attributes:
        n_examples: How many; of held-out examples the mean number over the seeds that select them.
        distance: Mean |difference of expected accuracy|.
        accuracy: Of the unlearned models.
        reference: Of the models that they are compared with.
    """

    n_examples: float
    distance: Quantity
    accuracy: Quantity
    reference: Quantity


@dataclass(frozen=True)
class Distance:
    """How far models are from a reference, T = mean over groups of the mean |difference of expected accuracy|.

    Attributes:
        value: Its null is zero: of models of one distribution it is 0 on average, so it may be below. Differences that so
            few models cannot tell from none count less than they are.
        lower: T is above it, with 95% confidence.
        upper: T is below it, likewise: with all that differences may count too little.
        excess: Mean over groups of the accuracy of the reference less that of the models: what they lost that the reference
            still knows, less what they know that the reference does not.
        groups: Those of `GROUPS` that have examples.
        n_models: On each side.
    """

    value: Quantity
    lower: float
    upper: float
    excess: Quantity
    groups: Mapping[str, GroupDistance]
    n_models: int

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Metric:
    """A metric of others at half of the models, and its null: what it says of the other half of the oracles instead.

    Attributes:
        value: Of unlearned models against oracles.
        null: Of oracles against oracles, of as many. What an exact method would be given.
        p: Of a test of no difference between the two, with all models; NaN where there is none.
    """

    value: Quantity
    null: Quantity
    p: float = math.nan


@dataclass(frozen=True)
class Evaluation:
    """What one unlearning method did with one forget set.

    Attributes:
        method: Its name; `nothing` are the models of D, `retraining` one half of those of D\\S (compared with the other half).
        judgement: `untrains` where the distance to A(D\\S) is within the tolerance, `unlearns the concept` where that to
            A(D\\S_full) is, `both`, `neither` where both are beyond it; `undetermined` where the errors leave it open.
        direction: Of `neither`: `too little` or `too much` was forgotten; `in between`, too much for A(D\\S) and too little for
            A(D\\S_full); `other` where neither prevails, what is known is other than it should be. Empty otherwise.
        to_oracle: Distance to A(D\\S).
        to_full_oracle: To A(D\\S_full); None for a set without a concept, or one that is all of it.
        effect: Self, cross, harm, gain and regime of what the method did, as if it were retraining.
        retrained: The same of retraining without S.
        tolerance: Largest distance that counts as none.
        n_diverged: Models that did not stay finite, counted as wrong on every example.
        models_needed: Roughly how many models would decide; None where it is decided, or none within reach would.
        cost: Of a model, in retrainings; NaN where it is not known.
        settings: Of the method.
        settings_from: `default`, `given`, or what they were chosen by among several: `chosen on the oracle`, which is a bound
            of what can be reached, or `chosen by prediction`. Empty where they are not known.
        metrics: By their names; those that were asked for.
    """

    forget_set: ForgetSet
    method: str
    judgement: Judgement
    to_oracle: Distance
    to_full_oracle: Distance | None
    effect: Verdict
    retrained: Verdict
    tolerance: float
    direction: Direction = ""
    n_diverged: int = 0
    models_needed: int | None = None
    note: str = ""
    cost: float = math.nan
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_from: str = ""
    metrics: Mapping[str, Metric] = field(default_factory=dict)

    def __repr__(self) -> str:
        full = "" if self.to_full_oracle is None else f", to A(D\\S_full) {self.to_full_oracle}"
        return (
            f"Evaluation({self.method!r} on {self.forget_set.name!r}: {self.verdict}; distance to A(D\\S) {self.to_oracle}"
            f"{full}; {self.to_oracle.n_models:,} models)"
        )

    @property
    def verdict(self) -> str:
        """The judgement with its direction: `neither: too much`."""
        return f"{self.judgement}: {self.direction}" if self.direction else self.judgement
