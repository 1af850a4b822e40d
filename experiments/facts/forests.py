"""Predicts regimes by what models know a fact from: a random forest over the sources that its influences find.

Sums of influences take each source for itself; a tree says "known, where A and B are there, or these two others".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import infl
from infl.scores.evidence import q_values

MAX_SOURCES = 20


class Forests:
    r"""Probability that a fact is known from what is left of D: one forest a column, of models that left it out."""

    def __init__(self, runs: Sequence[infl.Run]) -> None:
        parts = [
            run.outcomes(name).load() for run in runs for name in ("design", "grouped") if name in run.collections()
        ]
        self.masks = np.concatenate([part.masks for part in parts])
        self.correct = np.concatenate([part.of("correct") for part in parts])
        self.on_d = runs[0].outcomes("full").load().of("correct").mean(axis=0)
        self.n_train = self.masks.shape[1]
        self.outcomes = infl.Outcomes(self.masks, correct=self.correct)
        self._fits: dict[int, tuple[list[int], Any]] = {}

    def likely(self, forget_set: infl.ForgetSet) -> str:
        """The regime of self and cross, sums of what is expected, compared with infl's thresholds."""
        ids, n_held_out = list(forget_set.ids), self.correct.shape[1] - self.n_train
        left = forget_set.retained(self.n_train)
        own = float(np.mean([self.on_d[j] - self.known(j, left) for j in ids]))
        everything = np.ones(self.n_train, bool)
        held_out = range(self.n_train, self.correct.shape[1])
        touched = [j for j in held_out if set(ids) & set(self._fit(j)[0])]
        lost = sum(self.known(j, everything) - self.known(j, left) for j in touched)
        high = own >= 0.1, lost * self.n_train / n_held_out / len(ids) >= 0.1
        return {(False, False): "no-op", (True, False): "local", (True, True): "spreading"}.get(high, "indirect")

    def known(self, column: int, left: np.ndarray) -> float:
        """Probability that models of what is left know it."""
        sources, forest = self._fit(column)
        if isinstance(forest, float):
            return forest
        return float(forest.predict_proba(np.append(left[sources], left.mean())[None])[0, 1])

    def _fit(self, column: int) -> tuple[list[int], Any]:
        if column not in self._fits:
            from sklearn.ensemble import RandomForestClassifier

            protocol = "left-out" if column < self.n_train else "held-out"
            q = q_values(np.asarray(infl.influence(self.outcomes, protocol=protocol, columns=[column]).p))[:, 0]
            sources = [int(k) for k in np.argsort(q) if q[k] <= 0.05][:MAX_SOURCES]
            rows = ~self.masks[:, column] if column < self.n_train else np.ones(len(self.masks), bool)
            x = np.column_stack([self.masks[rows][:, sources], self.masks[rows].mean(axis=1)])
            y = self.correct[rows, column] > 0.5
            forest: Any = float(y.mean())
            if 0 < forest < 1:
                settings: Any = {"min_samples_leaf": 3, "max_features": None, "random_state": 0}
                forest = RandomForestClassifier(50, **settings).fit(x, y)
            self._fits[column] = sources, forest
        return self._fits[column]
