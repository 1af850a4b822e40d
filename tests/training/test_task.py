"""A task is a loss and outcomes per example; those of documents are means over the tokens that are scored.

Each is compared with a loop over examples and tokens in NumPy. Padding and the tokens of a prompt must not count, a network for
documents must not look ahead, and a user's own task must be trained as a loop of one's own would train it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infl
from infl.records import Dataset, InputError
from infl.training.algorithm import Algorithm
from infl.training.architectures import gpt
from infl.training.ensemble import Ensemble, model_keys
from infl.training.layout import Layout
from infl.training.model import train_model
from infl.training.networks import Network
from infl.training.task import Task, choose_task, classification, next_token, next_token_by_document

N_TOKENS, LENGTH = 7, 6
TOKENS: Any = np.array([[1, 2, 3, 4, 0, 0], [5, -6, -1, 2, 3, 4], [2, 2, 0, 0, 0, 0], [6, 5, 4, 3, 2, 1]], np.int32)
LOGITS: Any = np.random.RandomState(0).normal(size=(len(TOKENS), LENGTH, N_TOKENS)).astype(np.float32)


def by_hand(tokens: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Of one document: position p predicts token p + 1; the prompt is negative, padding is 0."""
    losses, margins, right = [], [], []
    for p in range(LENGTH - 1):
        target = tokens[p + 1]
        if target <= 0:
            continue
        others = np.delete(logits[p], target)
        losses.append(np.log(np.exp(logits[p]).sum()) - logits[p, target])
        margins.append(logits[p, target] - others.max())
        right.append(logits[p].argmax() == target)
    second_half = right[len(right) // 2 :]
    return {
        "loss": float(np.mean(losses)),
        "correct": float(np.mean(right)),
        "margin": float(np.mean(margins)),
        "logprob": -float(np.mean(losses)),
        "exact": all(second_half),
        "count": len(right),
    }


def test_loss_and_outcomes_of_documents_are_means_over_their_scored_tokens() -> None:
    logits = LOGITS.copy()
    for position, token in enumerate(TOKENS[0, 1:4]):
        logits[0, position, token] += 10  # one document is known by heart
    expected = [by_hand(*one) for one in zip(TOKENS, logits, strict=True)]
    y: Any = np.zeros(len(TOKENS), np.int32)
    found = {"loss": next_token.loss(logits, TOKENS, y), **next_token.outcomes(logits, TOKENS, y)}
    for name, array in found.items():
        np.testing.assert_allclose(array, [one[name] for one in expected], rtol=1e-5, err_msg=name)
    assert found["exact"][0]
    assert not found["exact"][1]
    assert next_token.weights is not None
    assert next_token_by_document.weights is None
    np.testing.assert_array_equal(next_token.weights(TOKENS, y), [one["count"] for one in expected])


def documents(x: np.ndarray = TOKENS, n_held_out: int = 1) -> Dataset:
    y, n = np.zeros(len(x), np.int32), len(x) - n_held_out
    ids = np.arange(len(x))
    vocabulary = ("", *"abcdef")
    return Dataset("toy", x[:n], y[:n], x[n:], y[n:], ids[:n], ids[n:], ("document",), vocabulary=vocabulary)


SMALL = Algorithm(
    "gpt", widths=(8,), hidden=(16,), optimizer="adam", learning_rate=0.01, batch_size=2, epochs=3, schedule="cosine"
)


def test_gpt_sees_no_token_that_comes_later_and_no_other_document() -> None:
    network = gpt(N_TOKENS, widths=(8,), hidden=(16, 16))
    params = network.init(jax.random.key(0), TOKENS)
    logits = network.evaluate(params, jnp.abs(TOKENS))
    assert logits.shape == (len(TOKENS), LENGTH, N_TOKENS)
    later = jnp.abs(TOKENS).at[:, 3].set(1).at[:, 4:].set(0)
    np.testing.assert_allclose(network.evaluate(params, later)[:, :3], logits[:, :3], atol=1e-6)
    assert not np.allclose(network.evaluate(params, later)[:, 3], logits[:, 3], atol=1e-4)
    np.testing.assert_allclose(network.evaluate(params, jnp.abs(TOKENS[1:2])), logits[1:2], atol=1e-6)


def test_a_model_of_documents_is_that_of_its_members_alone() -> None:
    """Other tokens in a left-out document change its own outcomes at most; the prompt is read, though it is not scored."""
    data = documents()
    ensemble = Ensemble(SMALL, data, Layout(models_per_device=1))
    keys, masks = model_keys(0, "design", np.arange(1)), np.array([[True, True, False]])
    one = ensemble.train(keys, masks, keep_params=True)
    changed = TOKENS.copy()
    changed[2, :2] = [4, 1]
    other = Ensemble(SMALL, documents(changed), Layout(models_per_device=1)).train(keys, masks, keep_params=True)
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    assert not np.allclose(one.margin[0, 2], other.margin[0, 2])
    other_prompt = TOKENS.copy()
    other_prompt[1, 1] = -3
    read = Ensemble(SMALL, documents(other_prompt), Layout(models_per_device=1)).train(keys, masks)
    assert not np.allclose(read.margin[0, 1], one.margin[0, 1])
    assert one.correct.dtype == np.float32
    assert one.exact is not None
    assert one.exact.dtype == bool


def test_the_loss_of_a_batch_weighs_tokens_or_documents_alike() -> None:
    """One step of plain gradient descent on all members, by hand from gradients of single documents."""
    network = gpt(N_TOKENS, widths=(8,), hidden=(8,))
    members: Any = np.ones(3, bool)
    y = jnp.zeros(4, jnp.int32)
    counts = np.array([by_hand(*one)["count"] for one in zip(TOKENS[:3], LOGITS[:3], strict=True)], np.float32)
    for task, weights in ((next_token, counts / counts.sum()), (next_token_by_document, np.full(3, 1 / 3))):
        algorithm = Algorithm("gpt", batch_size=3, epochs=1, learning_rate=0.5, momentum=0.0, task=task)
        train = partial(train_model, algorithm=algorithm, network=network, task=task)
        trained = jax.jit(train)(jax.random.key(0), members, jnp.asarray(TOKENS), y)
        params = network.init(jax.random.split(jax.random.key(0))[0], jnp.asarray(TOKENS[:1]))

        @jax.jit
        @jax.grad
        def gradient(params: Any, tokens: Any, task: Task = task) -> Any:
            return task.loss(network.evaluate(params, jnp.abs(tokens)), tokens, y[:1])[0]

        expected = params
        for k, weight in enumerate(weights):
            own = gradient(params, TOKENS[k : k + 1])
            expected = jax.tree.map(lambda a, g, w=weight: a - 0.5 * w * g, expected, own)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), trained.params, expected)


def within_half(outputs: Any, x: Any, y: Any) -> Any:
    error = abs(outputs[:, 0] - y)
    return {"correct": error < 0.5, "margin": 0.5 - error}


REGRESSION = Task("regression", lambda outputs, x, y: (outputs[:, 0] - y) ** 2, within_half, n_outputs=1)
LINE = Network(lambda key, x: jnp.zeros((x.shape[1], 1)), lambda params, x: x @ params, name="line")


def line_data(n: int = 30, m: int = 10) -> Dataset:
    random = np.random.RandomState(1)
    x = random.normal(size=(n + m, 2)).astype(np.float32)
    y = (x @ np.array([1.5, -2.0]) + 0.1 * random.normal(size=n + m)).astype(np.float32)
    return infl.from_arrays(x[:n], None, x[n:], None, targets=(y[:n], y[n:]), name="line")


def test_a_task_of_ones_own_is_trained_as_a_loop_would() -> None:
    """Linear regression by gradient descent, in closed form step by step; right is what is within half a unit."""
    data = line_data()
    algorithm = Algorithm(LINE, task=REGRESSION, batch_size=30, epochs=40, learning_rate=0.1, momentum=0.0)
    trained = Ensemble(algorithm, data, Layout(models_per_device=1)).train(
        model_keys(0, "design", np.arange(1)), np.ones((1, 30), bool), keep_params=True
    )
    weights, x, y = np.zeros(2), data.x_train.astype(float), data.task_targets[:30]
    for _ in range(40):
        weights -= 0.1 * 2 / 30 * x.T @ (x @ weights - y)
    np.testing.assert_allclose(trained.params[0, :, 0], weights, rtol=1e-4)
    error = np.abs(data.images @ weights - data.task_targets)
    np.testing.assert_allclose(trained.margin[0], 0.5 - error, atol=1e-4)
    np.testing.assert_array_equal(trained.correct[0], error < 0.5)


@pytest.mark.parametrize(
    ("attempt", "telling"),
    [
        (lambda: Algorithm(task="ranking"), "task: expected one of classification, next-token, next-token-by-document"),
        (lambda: choose_task("classification", documents()), "task classification: expected labelled examples"),
        (lambda: choose_task("next-token", infl.load("digits", n_train=60)), "task next-token: expected documents"),
        (lambda: choose_task(None, line_data()), r"give the task they are for, task=infl.Task\(...\)"),
        (
            lambda: Ensemble(Algorithm("mlp"), documents()),
            "network: mlp takes no documents; take gpt",
        ),
        (
            lambda: Ensemble(Algorithm("gpt"), infl.load("digits", n_train=60)),
            "network gpt: expected documents, tokens",
        ),
        (
            lambda: Ensemble(replace(SMALL, network=LINE, widths=None, hidden=None, task=next_token), documents()),
            "network line: failed|network line: expected logits",
        ),
        (
            lambda: replace(REGRESSION, loss=lambda outputs, x, y: (outputs[:, 0] - y).sum()).outcome_kinds(
                line_data()
            ),
            r"task regression: expected the loss for each example, \[batch\], got \[\]",
        ),
        (
            lambda: replace(REGRESSION, outcomes=lambda outputs, x, y: {"correct": y > 0}).outcome_kinds(line_data()),
            "task regression: expected the outcomes correct and margin, and perhaps logprob and exact, got correct",
        ),
    ],
)
def test_tasks_that_do_not_fit_are_named(attempt: Any, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        attempt()


def test_kinds_of_outcomes_follow_from_the_task() -> None:
    digits = infl.load("digits", n_train=60)
    assert classification.outcome_kinds(digits) == (("correct", "margin"), False)
    assert next_token.outcome_kinds(documents()) == (("correct", "margin", "logprob", "exact"), True)
