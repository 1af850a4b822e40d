"""What of the scores of a run counts as found, and how small an effect could have been."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from infl.records import Array, Detectable, Estimate, InputError, OutcomeSource
from infl.scores.evidence import PValueCounts, check_q_over, q_values
from infl.scores.influence import PairScores
from infl.scores.power import FALSE_DISCOVERY_RATE, POWER, detectable_influence, detectable_memorization


@dataclass(frozen=True)
class Findings:
    """What a table of scores says beside them.

    q: of memorization, over all examples, [n].
    memorization, influence: the smallest that the models find; influence in the reading of the pairs.
    """

    q: Array
    memorization: Detectable
    influence: Detectable


def findings(
    outcomes: OutcomeSource,
    memorization: Estimate,
    pairs: PairScores,
    *,
    power: float = POWER,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
) -> Findings:
    """q-values and smallest detectable effects, at the p-values up to which these scores were found.

    memorization, pairs: from the same outcomes, pairs in any reading.

    Where nothing was found, the cut is that of a first discovery.

    Raises:
        InputError: where the scores have no p-values or the outcomes no columns of the pairs' reading, or power or rate is
            outside (0, 1).

    Example:
        >>> import numpy as np, infl
        >>> random = np.random.RandomState(0)
        >>> noise = infl.Outcomes(random.rand(200, 20) < 0.5, correct=random.rand(200, 40) < 0.5)
        >>> found = infl.findings(noise, infl.memorization(noise), infl.score_pairs(noise, n_pairs=3))
        >>> float(found.q.min()) > 0.05, found.influence.n_tests
        (True, 400)
    """
    if memorization.p is None:
        raise InputError("memorization: these scores have no p-values; compute them with infl.memorization")
    cuts = [counts.largest_p(false_discovery_rate) for counts in (PValueCounts.of([memorization.p]), pairs.p_values)]
    asked = {"power": power, "false_discovery_rate": false_discovery_rate}
    return Findings(
        q_values(memorization.p),
        detectable_memorization(outcomes, outcome=memorization.outcome, p_cut=cuts[0], **asked),
        detectable_influence(outcomes, reading=pairs.reading, outcome=pairs.outcome, p_cut=cuts[1], **asked),
    )


def q_of_pairs(*estimates: Estimate, q_over: Literal["matrix", "column"] = "matrix") -> Array:
    """q-values over all pairs of some estimates together, or over those of each column, their columns side by side.

    Raises:
        InputError: where one has no p-values, or q_over is neither.
    """
    check_q_over(q_over)
    if any(estimate.p is None for estimate in estimates):
        raise InputError("influence: these scores have no p-values; compute them with infl.influence")
    p = np.concatenate([np.asarray(estimate.p) for estimate in estimates], axis=1)
    return q_values(p, axis=0 if q_over == "column" else None)
