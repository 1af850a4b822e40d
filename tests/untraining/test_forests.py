"""Forests predict what facts say together: in a world of known rules each set does by prediction what the rules say.

Persons are born in towns (A), towns lie on rivers (B), the persons' rivers are held out (C): known where A and B are there.
Hobbies are put in two ways, known where one of them is there. Outcomes are drawn from these rules, so they are the truth.
"""

from __future__ import annotations

import numpy as np
import pytest

import infl
from infl.untraining.effects import fit_predictor
from infl.untraining.forests import find_sharing

N_TOWNS, N_PERSONS, N_HOBBIES = 6, 24, 6
A, B = np.arange(N_PERSONS), N_PERSONS + np.arange(N_TOWNS)
WAYS = (N_PERSONS + N_TOWNS + np.arange(2 * N_HOBBIES)).reshape(2, -1)
N = WAYS.max() + 1
TOWN = A % N_TOWNS


def facts() -> infl.Dataset:
    from infl.data.facts import from_facts

    born = [(f"p{k}", "born", f"t{town}") for k, town in enumerate(TOWN)]
    rivers = [(f"t{k}", "river", f"r{k % 3}") for k in range(N_TOWNS)]
    hobbies = [(f"p{k}", way, f"h{k % 3}") for way in ("hobby", "likes") for k in range(N_HOBBIES)]
    return from_facts(born + rivers + hobbies, [(f"p{k}", "river", f"r{t % 3}") for k, t in enumerate(TOWN)])


def known(masks: np.ndarray) -> np.ndarray:
    """What models of these subsets know by the rules, [T, n+m]."""
    either = masks[:, WAYS[0]] | masks[:, WAYS[1]]
    return np.concatenate([masks[:, A], masks[:, B], either, either, masks[:, A] & masks[:, B][:, TOWN]], axis=1)


def outcomes(masks: np.ndarray, seed: int) -> infl.Outcomes:
    right = known(masks)
    return infl.Outcomes(
        masks, correct=right, margin=np.where(right, 3, -3) + np.random.RandomState(seed).randn(*right.shape)
    )


@pytest.mark.parametrize(
    ("ids", "regime"),
    [
        ((A[3],), "spreading"),
        ((B[2],), "spreading"),
        ((WAYS[0, 1],), "no-op"),
        (tuple(WAYS[:, 1]), "local"),
        ((WAYS[0, 1], WAYS[1, 2]), "no-op"),
        ((A[3], WAYS[1, 4]), "spreading"),
    ],
)
def test_a_set_does_by_prediction_what_the_rules_say(ids: tuple[int, ...], regime: str) -> None:
    dataset, random = facts(), np.random.RandomState(0)
    masks = random.random_sample((500, N)) < random.uniform(0.7, 0.97, (500, 1))
    predict = fit_predictor(
        "forests",
        sources=[outcomes(masks, 1)],
        reference=outcomes(np.ones((8, N), bool), 2),
        images=dataset.images,
        labels=dataset.labels,
        n_classes=dataset.n_classes,
    )
    forget_set = infl.ForgetSet("s", tuple(map(int, ids)))
    (effects,) = predict([forget_set])
    truth = 1.0 - known(forget_set.retained(N)[None])[0]
    assert np.abs(effects.effect - truth).max() < 0.2
    assert (np.abs(effects.effect - truth) <= 3 * effects.se + 0.02).all()
    verdict = infl.judge(effects)
    assert (verdict.regime, verdict.source) == (regime, "forests")


def test_what_is_left_of_what_facts_share_is_counted_without_themselves() -> None:
    dataset, random = facts(), np.random.RandomState(1)
    masks = random.random_sample((3, N)) < 0.7
    sharing = find_sharing(dataset.images, dataset.labels, n_train=N)
    columns = np.array([0, B[1], WAYS[1, 2], N + 5])
    found = sharing.left(masks, columns)
    questions = [(s, r, o) for (s, r), o in zip(dataset.images.tolist(), dataset.labels.tolist(), strict=True)]
    for k, column in enumerate(columns.tolist()):
        s, r, o = questions[column]
        others = [(one, k2) for k2, one in enumerate(questions[:N]) if k2 != column]
        shared = [
            [{one[0], one[2]} == {s, o}, s in (one[0], one[2]), o in (one[0], one[2]), one[1] == r, True]
            for one, _ in others
        ]
        for kind in range(5):
            some = [k2 for (_, k2), row in zip(others, shared, strict=True) if row[kind]]
            expected = masks[:, some].mean(axis=1) if some else np.ones(len(masks))
            np.testing.assert_allclose(found[:, k, kind], expected, rtol=1e-6)
