"""What forgetting changes on a token is the share of models that predict it with S less that of models without.

A slow loop over models and tokens says so from the weights that the run keeps, and the mean over a document is what
verification measured on it, since its outcome is the share of its tokens.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl.pipeline.tokens import token_effects
from infl.records import ForgetSet, TokenEffects
from infl.untraining.verification import measure_token_effects
from tests.blocks import stored_blocks

N_MODELS = 4
S = ForgetSet("s", (0,))


def by_hand(run: Path, column: int, without: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Effect and error of each token, model by model and token by token."""
    opened = infl.open_run(run)
    data, algorithm = opened.dataset(), infl.Algorithm.from_dict(opened.manifest["algorithm"])
    network = algorithm.network_for(data)
    tokens = data.images[column]
    length = int((tokens != 0).sum())
    differences = np.full((N_MODELS, length), np.nan)
    for model in range(N_MODELS):
        right = []
        for ids in ([], without):
            infl.keep_weights(run, n_models=N_MODELS, without=ids, quiet=True)
            logits = np.asarray(network.evaluate(infl.load_weights(run, model=model, without=ids), tokens[None]))[0]
            right.append([logits[k - 1].argmax() == tokens[k] for k in range(1, length)])
        differences[model, 1:] = np.array(right[0], int) - np.array(right[1], int)
    errors = np.full(length, np.nan)
    for k in range(1, length):
        lost, gained = ((sum(differences[:, k] == side) + 0.5) / (N_MODELS + 1.5) for side in (1, -1))
        errors[k] = ((lost + gained - (lost - gained) ** 2) / (N_MODELS + 2.5)) ** 0.5
    return differences.mean(axis=0), errors


@pytest.fixture
def run(documents_run: infl.Run, tmp_path: Path) -> Path:
    return shutil.copytree(documents_run.folder, tmp_path / "run")


def test_effects_on_tokens_are_those_of_a_slow_loop_and_their_mean_that_on_the_document(run: Path) -> None:
    effects = token_effects(run, 5, n_models=N_MODELS, quiet=True)
    blocks = stored_blocks(run)
    measured = next(infl.verify_effects(run, {"it": [5]}, n_models=N_MODELS, stop=None, quiet=True))
    assert stored_blocks(run) == blocks  # those that were judged by token are judged
    value, se = by_hand(run, 5, [5])
    np.testing.assert_allclose(effects.effect, value)
    np.testing.assert_allclose(effects.se, se)
    assert np.isnan(effects.effect[0])
    assert np.nanmean(effects.effect) == pytest.approx(measured.effect[5], abs=2**-10)
    assert (effects.effect[1:] != 0).any()

    # With weights that the run keeps, and on a document that no model trained on.
    again = token_effects(run, 40, without=[5], n_models=N_MODELS, quiet=True)
    np.testing.assert_allclose(again.effect, by_hand(run, 40, [5])[0])
    assert again.forget_set.ids == (5,)
    assert stored_blocks(run) == blocks


def test_a_token_that_is_not_scored_has_no_estimate_and_one_that_nothing_changes_is_zero_within_errors() -> None:
    random, n_models, length = np.random.RandomState(0), 16, 4001
    tokens, chance = random.randint(1, 9, length), random.uniform(size=length - 1)
    tokens[1:1001] *= -1
    full, without = (random.uniform(size=(n_models, length - 1)) < chance for _ in range(2))
    effects = measure_token_effects(7, S, tokens, full=full, without=without)
    assert np.isnan(effects.effect[:1001]).all()
    assert np.isnan(effects.se[:1001]).all()
    beyond = np.abs(effects.effect[1001:]) > 2 * effects.se[1001:]
    assert beyond.mean() < 0.06
    assert (effects.se[1001:] > 0).all()
    lost = measure_token_effects(7, S, tokens, full=full | True, without=without & False)
    assert (lost.effect[1001:] == 1).all()
    assert (lost.se[1001:] > 0.03).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"example": 40}, "example 40 is held out, so that no model trained on it"),
        ({"example": 48}, "example: expected 0 to 47"),
        ({"example": 1, "without": []}, "without: expected ids of training examples, got none"),
        ({"example": 1, "n_models": 0}, "n_models: expected at least 1"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], said: str, documents_run: infl.Run) -> None:
    with pytest.raises(infl.InputError, match=said):
        token_effects(documents_run, **settings)


def test_examples_without_tokens_are_named(small_run: infl.Run) -> None:
    with pytest.raises(infl.InputError, match="tokens: expected a run of documents"):
        token_effects(small_run, 0)


# Its picture


def drawn(effects: TokenEffects, data: infl.Dataset) -> Any:
    ax: Any = infl.plot.tokens(effects, data)
    ax.figure.draw_without_rendering()
    return ax


def test_the_picture_holds_the_whole_text_with_whole_words_in_lines() -> None:
    """Also where bytes, of which some are no whole characters, are the tokens."""
    text = "The  quick brown fox, Zoë — and “others”\tjumped over $1$ dogs. " * 3 + "End\nof it."
    data = infl.from_documents([text, "a b"], ["c d"])
    length = len(data.tokens(0))
    random = np.random.RandomState(0)
    effect, se, without = (np.where(np.arange(length) > 0, random.uniform(0, 0.4, length), np.nan) for _ in range(3))
    ax = drawn(TokenEffects(0, S, effect, se, without, n_models=4), data)
    lines: dict[float, list[Any]] = {}
    for one in ax.texts:
        lines.setdefault(one.get_position()[1], []).append(one)
    words = [word for y in sorted(lines) for word in "".join(_spaced(lines[y])).split()]
    assert words == text.replace("\n", "↵\n").split()
    edge = ax.get_window_extent().x1 + 1
    for some in lines.values():
        boxes = [one.get_window_extent() for one in some if one.get_text() != " "]
        assert all(left.x1 <= right.x0 + 1.5 for left, right in zip(boxes, boxes[1:], strict=False))
        assert boxes[-1].x1 <= edge
    whiskers = [line.get_ydata() for line in ax.lines]
    assert len(whiskers) == length - 1
    assert all(np.ptp(one) > 0 for one in whiskers)
    with pytest.raises(infl.InputError, match="expected the effects on a document of this data"):
        infl.plot.tokens(TokenEffects(1, S, effect, se, without, n_models=4), data)


def _spaced(texts: list[Any]) -> list[str]:
    """Texts of a line from left to right, with a space where columns are empty between them."""
    found, end = list[str](), 0.0
    for one in texts:
        x = one.get_position()[0]
        found += [" "] * (x > end) + [one.get_text()]
        end = x + len(one.get_text())
    return found


def test_what_lies_within_two_errors_is_pale() -> None:
    data = infl.from_documents(["abc", "a b"], ["c d"])
    nan = np.nan
    effects = TokenEffects(0, S, np.array([nan, 0.5, 0.5]), np.array([nan, 0.1, 0.3]), np.array([nan, 0.2, 0.2]), 4)
    ax = drawn(effects, data)
    shades = [patch.get_facecolor() for patch in ax.patches if patch.get_height() == pytest.approx(0.38)]
    assert len(shades) == 2
    darkness = [3 - sum(color[:3]) for color in shades]
    assert darkness[0] > 2 * darkness[1] > 0
