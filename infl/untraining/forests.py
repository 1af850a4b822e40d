"""Predicts what models know of facts when some are left out: a forest for each fact, over the facts that it is known from.

Facts say things together: a conclusion is known where both premises are there, or another derivation; a statement put in three
ways as long as one of them is. Sums of influences see none of that, trees do. For fact j, in one protocol of j, the forest
predicts whether a model knows j from

- which of its sources the model trained on: facts whose influence on the margin of j is found at a false discovery rate of
  0.05, over all of D or over those that name an entity of j, in models of random subsets; 20 at most;
- how much is left of what names both entities of j, its subject, its object, its relation, and of all: what groups that are
  left out together take away, which would else pass for influence of their members.

The trees' leaves are filled with the models that a tree did not grow on (out of bag; honest trees, Wager & Athey 2018), so that
no model both shapes a tree and is counted by it. The forest is then a weighted mean of outcomes, with weights w(O) of the
models for what is left out, O:

    P_j(O) = sum_t w_t(O) y_tj,   Var[P_j(O)] = p (1 - p) (1 / (k + 1) + c),   p = (k P_j(O) + 1/2) / (k + 1)
    Var[P_j(O) - P_j(0)] = p (1 - p) (sum_t d_t^2 + c (sum_t |d_t| / 2)^2),    d_t = w_t(O) - w_t(0)

with k = 1 / sum_t w_t^2, and c the misfit: leaves mix what models of exactly O would tell apart. The effect on others is
P_j(0) - P_j(S), on members of S what models of D know less P_j(S). A fact of which nothing went is as on D.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from infl.records import Array, Effects, ForgetSet, OutcomeSource, ProtocolName
from infl.records.outcomes import join_blocks
from infl.scores.evidence import q_values
from infl.scores.influence import influence_blocks
from infl.scores.sufficient_statistics import columns_counted
from infl.untraining.regimes import cross_weights

MAX_Q = 0.05
MAX_SOURCES = 20
N_TREES = 50
MIN_LEAF = 3
MISFIT = 0.1  # c, by the measured sets of one world (`experiments/facts`), which is not reported
MIN_MISSING = 0.03  # of what a fact shares a name with; while less went it is as on D
N_COVERING = 3  # models that must have left out a fraction of S at once for it to count as covered


@dataclass(frozen=True)
class Sharing:
    """Which facts share what, in five kinds: both entities, subject, object, relation, and that they are facts.

    Attributes:
        codes: [5, n+m] what each fact is asked for, by number.
        named: [n, codes] of each kind, which of these each training fact names.
    """

    codes: Array
    named: list[csr_array]

    def left(self, masks: Array, columns: Array) -> Array:
        """What is left of the other training facts that share each with a column, [subsets, columns, 5]; 1 where none does."""
        n_train = masks.shape[1]
        inside = columns < n_train
        own = np.where(inside, masks[:, np.where(inside, columns, 0)], False)
        result = np.empty((len(masks), len(columns), len(self.named)), np.float32)
        for kind, (codes, named) in enumerate(zip(self.codes, self.named, strict=True)):
            counts, totals = np.asarray(masks.astype(np.float32) @ named), np.asarray(named.sum(axis=0)).ravel()
            asked = codes[columns]
            others = totals[asked] - inside
            result[..., kind] = np.where(others > 0, (counts[:, asked] - own) / np.maximum(others, 1), 1)
        return result


def find_sharing(x: Array, objects: Array, *, n_train: int) -> Sharing:
    """Of facts as [n+m, 2] subjects and relations, and [n+m] objects, the training facts first.

    Examples:
        >>> sharing = find_sharing(np.array([[0, 0], [1, 0], [0, 1]]), np.array([1, 2, 2]), n_train=2)
        >>> sharing.left(np.array([[True, False]]), np.array([0, 2])).round(1).tolist()
        [[[1.0, 1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0, 0.5]]]
    """
    subjects, relations = x.T
    low, high = np.minimum(subjects, objects), np.maximum(subjects, objects)
    pairs = np.unique(np.stack([low, high]), axis=1, return_inverse=True)[1].reshape(-1)
    codes = np.stack([pairs, subjects, objects, relations, np.zeros_like(pairs)])
    n_entities = int(high.max()) + 1

    def table(numbers: Array, n_codes: int) -> csr_array:
        rows, columns = np.unique(np.stack([np.arange(numbers.size) % n_train, numbers]), axis=1)
        return csr_array((np.ones(len(rows), np.float32), (rows, columns)), (n_train, n_codes))

    entities = table(np.concatenate([subjects[:n_train], objects[:n_train]]), n_entities)
    single = [table(codes[kind, :n_train], int(codes[kind].max()) + 1) for kind in (0, 3, 4)]
    return Sharing(codes, [single[0], entities, entities, *single[1:]])


@dataclass(frozen=True)
class Forests:
    """Forests of the columns asked for so far. Make one with `fit_forests`.

    Attributes:
        masks: [T, n] of all models of subsets.
        correct: [T, n+m].
        on_d: [R, n+m] of models of D.
        sources: By protocol, of each of its columns the ids that it is known from.
    """

    masks: Array
    correct: Array
    on_d: Array
    sharing: Sharing
    sources: dict[ProtocolName, dict[int, Array]]
    grown: dict[tuple[ProtocolName, int], Any] = field(default_factory=dict)

    def __call__(self, forget_sets: Sequence[ForgetSet]) -> Iterator[Effects]:
        """The effects of each set in turn; NaN covariance for a set of more examples than any model left out."""
        for one in forget_sets:
            yield self._effects(one)

    def _effects(self, forget_set: ForgetSet) -> Effects:
        (n_models, n_train), n_columns = self.masks.shape, self.on_d.shape[1]
        ids, left = np.array(forget_set.ids), forget_set.retained(n_train)
        effect, variance = np.zeros((2, n_columns))
        for j in ids.tolist():
            known, scatter, _ = self._known("left-out", j, left)
            effect[j] = self.on_d[:, j].mean() - known
            variance[j] = scatter + self.on_d[:, j].var() / len(self.on_d)
        columns = np.arange(n_columns)
        touched = (self.sharing.left(left[None], columns)[0] < 1 - MIN_MISSING).any(axis=1)
        for protocol in ("trained", "held-out"):
            for j, sources in self.sources[protocol].items():
                if (touched[j] or np.isin(sources, ids).any()) and not (j < n_train and not left[j]):
                    effect[j], variance[j] = self._lost(protocol, j, left)

        inside = np.isin(columns, ids)
        weights = cross_weights(inside, n_train) / len(ids)
        # However well all agree, so many models cannot show what fewer than one in all of them would.
        minimum = np.array([1.0, weights.max(initial=0)]) / n_models
        errors = np.sqrt([variance[ids].sum() / len(ids) ** 2, weights**2 @ variance])
        left_out = ~self.masks
        reached = len(ids) <= left_out.sum(axis=1).max()
        covering = np.sort(left_out[:, ids].mean(axis=1))
        return Effects(
            forget_set=forget_set,
            n_train=n_train,
            effect=effect,
            se=np.sqrt(variance),
            replicates=np.empty((0, n_columns)),
            source="forests",
            n_models=n_models,
            covariance=np.diag(np.maximum(errors, minimum) ** 2) if reached else np.full((2, 2), np.nan),
            covered=float(covering[-min(N_COVERING, n_models)]),
        )

    def _known(self, protocol: ProtocolName, column: int, left: Array) -> tuple[float, float, Array]:
        """Probability that models of what is left know it, its variance, and the weights of the models."""
        forest, outcomes, leaves, in_bag = self._forest(protocol, column)
        if forest is None:
            weights = np.full(len(outcomes), 1 / max(len(outcomes), 1))
        else:
            members = (leaves == forest.apply(self._inputs(protocol, column, left[None]))) & ~in_bag
            filled = members.any(axis=0)
            weights = (members[:, filled] / members[:, filled].sum(axis=0)).mean(axis=1)
        if not len(weights) or np.isnan(weights).any():
            return np.nan, np.nan, weights
        known, n_effective = float(weights @ outcomes), 1 / float(weights @ weights)
        return known, _smoothed(known, n_effective) * (1 / (n_effective + 1) + MISFIT), weights

    def _lost(self, protocol: ProtocolName, column: int, left: Array) -> tuple[float, float]:
        """By how much fewer models know it than of all of D, and its variance."""
        before, _, weights_before = self._known(protocol, column, np.ones_like(left))
        after, _, weights = self._known(protocol, column, left)
        change = weights - weights_before
        moved = float(np.abs(change).sum()) / 2
        scale = float(change @ change) + MISFIT * moved**2
        return before - after, scale * _smoothed(after, 1 / float(weights @ weights))

    def _inputs(self, protocol: ProtocolName, column: int, masks: Array) -> Array:
        shared = self.sharing.left(masks, np.array([column]))[:, 0]
        return np.concatenate([masks[:, self.sources[protocol][column]], shared], axis=1, dtype=np.float32)

    def _forest(self, protocol: ProtocolName, column: int) -> Any:
        """The forest, None where all models agree; outcomes of the models that count, their leaves, and what trees grew on."""
        if (protocol, column) not in self.grown:
            from sklearn.ensemble import RandomForestRegressor  # here, because it takes a second

            counted = columns_counted(self.masks, protocol, np.array([column]))
            rows = np.ones(len(self.masks), bool) if counted is None else counted[:, 0]
            x, y = self._inputs(protocol, column, self.masks[rows]), self.correct[rows, column].astype(np.float64)
            if len(y) < 2 * MIN_LEAF or y.min() == y.max():
                self.grown[protocol, column] = None, y, None, None
            else:
                forest = RandomForestRegressor(
                    N_TREES, min_samples_leaf=MIN_LEAF, max_features=1.0, random_state=0
                ).fit(x, y)
                in_bag = np.stack([np.bincount(some, minlength=len(y)) > 0 for some in forest.estimators_samples_], 1)
                self.grown[protocol, column] = forest, y, forest.apply(x), in_bag
        return self.grown[protocol, column]


def fit_forests(sources: Sequence[OutcomeSource], reference: OutcomeSource, x: Array, objects: Array) -> Forests:
    """Find what each fact is known from; trees grow when they are asked for.

    Args:
        sources: Models of subsets, random ones first.
        reference: Models of all of D.
        x: [n+m, 2] subjects and relations.
        objects: [n+m].
    """
    sharing = find_sharing(np.asarray(x), np.asarray(objects), n_train=reference.n_train)
    read = [join_blocks(list(source.blocks())) for source in sources]
    protocols: tuple[ProtocolName, ...] = ("left-out", "trained", "held-out")
    return Forests(
        masks=np.concatenate([one.masks for one in read]),
        correct=np.concatenate([one.of("correct") for one in read]),
        on_d=np.concatenate([block.of("correct") for block in reference.blocks()]),
        sharing=sharing,
        sources={protocol: _find_sources(read[0], sharing, protocol) for protocol in protocols},
    )


def _find_sources(outcomes: OutcomeSource, sharing: Sharing, protocol: ProtocolName) -> dict[int, Array]:
    """Of each column the ids with an influence on it, the surest first."""
    n_train, found = outcomes.n_train, dict[int, Array]()
    column = n_train if protocol == "held-out" else 0
    for estimate in influence_blocks(outcomes, protocol=protocol, outcome="margin"):
        for p in np.asarray(estimate.p).T:
            q = q_values(p)
            near = np.flatnonzero(_share_an_entity(sharing, column, n_train))
            q[near] = np.fmin(q[near], q_values(p[near]))
            order = np.argsort(p, kind="stable")
            found[column] = order[q[order] <= MAX_Q][:MAX_SOURCES]
            column += 1
    return found


def _share_an_entity(sharing: Sharing, column: int, n_train: int) -> Array:
    subject, its_object = sharing.codes[1:3, column]
    entities = sharing.codes[1:3, :n_train]
    return ((entities == subject) | (entities == its_object)).any(axis=0) & (np.arange(n_train) != column)


def _smoothed(fraction: float, n: float) -> float:
    """p (1 - p) of a fraction of n models, half a model of either kind more."""
    p = (n * fraction + 0.5) / (n + 1)
    return p * (1 - p)
