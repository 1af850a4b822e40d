"""The public interface stays small and says of itself what a person wants to know.

Whoever begins reads `infl.__all__` and prints what comes back; fifty names are what one page of a reference holds.
"""

from __future__ import annotations

import numpy as np
import pytest

import infl


def test_every_name_is_there_and_there_are_no_more_than_fifty() -> None:
    assert len(infl.__all__) == len(set(infl.__all__)) <= 50
    assert all(hasattr(infl, name) for name in infl.__all__)
    assert dir(infl) == infl.__all__


def test_scores_take_a_run_and_its_outcomes_alike(small_run: infl.Run) -> None:
    outcomes = small_run.outcomes("design").load()
    for estimate in (infl.memorization, infl.influence):
        np.testing.assert_array_equal(estimate(small_run).value, estimate(outcomes).value)
        np.testing.assert_array_equal(estimate(small_run).se, estimate(outcomes).se)


def test_settings_that_are_given_to_train_itself_are_told_where_they_belong(small_digits: infl.Dataset) -> None:
    with pytest.raises(infl.InputError, match=r"takes no epochs=2: write algorithm=infl.Algorithm\(epochs=2\)"):
        infl.train(small_digits, "never", epochs=2)
    with pytest.raises(infl.InputError, match=r"design=infl.Design\(kind='uniform', fraction=0.5\)"):
        infl.train(small_digits, "never", fraction=0.5, kind="uniform")
    with pytest.raises(infl.InputError, match=r"layout=infl.Layout\(n_devices=1\)"):
        infl.train(small_digits, "never", n_devices=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nosuch'"):
        infl.train(small_digits, "never", nosuch=1)


def test_what_is_printed_says_what_it_is_and_dumps_no_array(small_run: infl.Run) -> None:
    outcomes, data = small_run.outcomes("design").load(), small_run.dataset()
    forget_set = infl.forget_sets.class_set(data, 3)
    [effects] = infl.predict_effects(small_run, [forget_set], predictor="additive", quiet=True)
    memorization, influence = infl.memorization(outcomes), infl.influence(outcomes)
    largest = int(np.nanargmax(memorization.value))
    for record, said in (
        (data, (f"{data.n_train} training and {data.n_held_out} held-out examples of 10 classes", "[8, 8]")),
        (small_run, (str(small_run.place), "digits", f"{outcomes.n_models} design", "accuracy")),
        (outcomes, (f"{outcomes.n_models} models", "correct", "margin")),
        (memorization, ("memorization", "in accuracy", f"largest {memorization.value[largest]:.2f} ±", f"[{largest}]")),
        (influence, ("held-out influence", f"{list(influence.value.shape)}")),
        (forget_set, (f"'class 3': {len(forget_set)} examples",)),
        (effects, ("'class 3'", "additive", f"{effects.effect.size} examples")),
        (infl.judge(effects), ("'class 3'", "self", "cross", "additive")),
    ):
        shown = repr(record)
        assert all(words in shown for words in said), shown
        assert len(shown) < 250
        assert "\n" not in shown
        assert "array(" not in shown
