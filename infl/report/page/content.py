"""What a page is made of: the records that the pipeline gathers from a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infl.records import (
    Accuracy,
    Array,
    Dataset,
    Detectable,
    Estimate,
    Evaluation,
    ProtocolName,
    Quantity,
    ScoredPair,
    Verdict,
)
from infl.report.text import Row


@dataclass(frozen=True)
class ScoreContent:
    """Scores of a run, and how sure they are.

    Attributes:
        n_models: Of random subsets, on which they rest.
        memorization, interval, q: Of the training examples, [n]; interval is (low, high) at 95%.
        pairs, pair_intervals: The strongest influences in `protocol`, and (low, high) of each at 95%; none without such
            columns.
        graph: Of facts, influences found on some of them.
        smallest_memorization, smallest_influence: What could have been found; None where it was not asked.
    """

    n_models: int
    memorization: Estimate
    interval: tuple[Array, Array]
    q: Array
    pairs: Sequence[ScoredPair] = ()
    pair_intervals: Sequence[tuple[float, float]] = ()
    protocol: ProtocolName = "held-out"
    smallest_memorization: Detectable | None = None
    smallest_influence: Detectable | None = None
    graph: Sequence[ScoredPair] = ()


@dataclass(frozen=True)
class HarmedExample:
    """An example outside S that untraining S harms; each effect is None where it is not known."""

    column: int
    predicted: Quantity | None
    measured: Quantity | None


@dataclass(frozen=True)
class SetContent(Row):
    """What is known of one forget set.

    Attributes:
        harmed: Examples harmed most, by the measurement where there is one.
        evaluations: Of the methods that unlearned it.
    """

    harmed: Sequence[HarmedExample] = ()
    evaluations: Sequence[Evaluation] = ()

    @property
    def best(self) -> Verdict:
        """The measured verdict where there is one, else the predicted one."""
        return self.verdicts[-1]


@dataclass(frozen=True)
class PageContent:
    """All that a page shows.

    Attributes:
        description: Of the run, as `Run.describe` gives it.
        scores: None where the run has no models of random subsets.
        sets: Forget sets, each name once.
        accuracy: Of the models of D.
    """

    description: Mapping[str, Any]
    dataset: Dataset
    scores: ScoreContent | None = None
    sets: Sequence[SetContent] = field(default_factory=tuple)
    accuracy: Accuracy | None = None
