"""What a network is trained for and judged by: a loss and outcomes, both per example.

`classification` has a label for each example. `next_token` has documents: each token is predicted from those before it, and
the outcome is the share of tokens that are right. A user's own task is a `Task` of two functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infl.records import OUTCOME_KINDS, Dataset, InputError, OutcomeKind

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True)
class Task:
    """A loss and outcomes per example, as pure functions of a network's outputs, the examples and their targets.

    Attributes:
        name: Stands in the run's manifest; a resumed run must name the same task.
        loss: (outputs, x, y) -> [b].
        outcomes: (outputs, x, y) -> arrays [b]: "correct", bool or a share in [0, 1]; "margin", above zero where the model is
            right; for documents also "logprob" and "exact".
        n_outputs: Last axis of the outputs; None for the number of classes, or of documents that of tokens.
        weights: (x, y) -> [b], how much an example counts in the loss of its batch; None for all alike.

    Examples:
        Regression that counts as right what is within half a unit:

        >>> def within(outputs, x, y):
        ...     error = abs(outputs[:, 0] - y)
        ...     return {"correct": error < 0.5, "margin": 0.5 - error}
        >>> regression = Task("regression", lambda outputs, x, y: (outputs[:, 0] - y) ** 2, within, n_outputs=1)
    """

    name: str
    loss: Callable[[Any, Any, Any], jax.Array]
    outcomes: Callable[[Any, Any, Any], dict[str, jax.Array]]
    n_outputs: int | None = None
    weights: Callable[[Any, Any], jax.Array] | None = None

    def output_shape(self, dataset: Dataset) -> tuple[int, ...]:
        """Shape of the outputs of a network for one example."""
        if dataset.is_documents:
            return (dataset.x_train.shape[1], self.n_outputs or len(dataset.vocabulary))
        return (self.n_outputs or dataset.n_classes,)

    def outcome_kinds(self, dataset: Dataset) -> tuple[tuple[OutcomeKind, ...], bool]:
        """The outcomes that it has, and whether "correct" is a share, as loss and outcomes of two examples show.

        Raises:
            InputError: Where these are not one number an example, or an outcome is missing or unknown.
        """
        import jax

        x = dataset.x_train[:2]
        y = dataset.task_targets[: len(x)]
        outputs = jax.ShapeDtypeStruct((len(x), *self.output_shape(dataset)), "float32")
        outcomes = jax.eval_shape(self.outcomes, outputs, x, y)
        for name, array in {"the loss": jax.eval_shape(self.loss, outputs, x, y), **outcomes}.items():
            if array.shape != (len(x),):
                raise InputError(
                    f"task {self.name}: expected {name} for each example, [batch], got {list(array.shape)}"
                )
        if not {"correct", "margin"} <= set(outcomes) <= set(OUTCOME_KINDS):
            raise InputError(
                f"task {self.name}: expected the outcomes correct and margin, and perhaps logprob and exact, got "
                f"{', '.join(outcomes)}"
            )
        return tuple(kind for kind in OUTCOME_KINDS if kind in outcomes), outcomes["correct"].dtype != bool


# Classification


def _cross_entropy(logits: jax.Array, x: jax.Array, labels: jax.Array) -> jax.Array:
    import optax

    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _label_outcomes(logits: jax.Array, x: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Margin log p(y) - max over c != y of log p(c), and correctness."""
    import jax.numpy as jnp

    own = jnp.arange(logits.shape[1]) == labels[:, None]
    others = jnp.max(jnp.where(own, -jnp.inf, logits), axis=1)
    margin = jnp.sum(jnp.where(own, logits, 0), axis=1) - others
    return {"correct": jnp.argmax(logits, axis=1) == labels, "margin": margin}


classification = Task("classification", _cross_entropy, _label_outcomes)


# Next token: position p of the outputs predicts token p + 1, the last none; padding is 0, tokens that are not scored negative


def _next_tokens(tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The token after each position and whether it is scored, [b, L] each; logits are not cut, which would copy them."""
    import jax.numpy as jnp

    after = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1)))
    return jnp.abs(after), after > 0


def _n_scored(tokens: jax.Array, y: jax.Array) -> jax.Array:
    import jax.numpy as jnp

    return jnp.maximum((tokens[:, 1:] > 0).sum(axis=1), 1).astype(jnp.float32)


def _document_loss(logits: jax.Array, tokens: jax.Array, y: jax.Array) -> jax.Array:
    targets, scored = _next_tokens(tokens)
    losses = _cross_entropy(logits, tokens, targets)
    return (losses * scored).sum(axis=1) / _n_scored(tokens, y)


def token_margins(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Logit of the token after each position less the best other one, [b, L]: above zero where it is predicted."""
    import jax.numpy as jnp

    targets = _next_tokens(tokens)[0]
    own = jnp.take_along_axis(logits, targets[..., None], axis=2)[..., 0]
    others = jnp.max(jnp.where(jnp.arange(logits.shape[2]) == targets[..., None], -jnp.inf, logits), axis=2)
    return own - others


def _document_outcomes(logits: jax.Array, tokens: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """Means over the scored tokens of a document: share right, margin, log-probability; exact: all of its second half right."""
    import jax.numpy as jnp

    targets, scored = _next_tokens(tokens)
    losses, count = _cross_entropy(logits, tokens, targets), _n_scored(tokens, y)
    margins = token_margins(logits, tokens)
    right = margins > 0
    second_half = scored & (jnp.cumsum(scored, axis=1) > (count[:, None] / 2))

    def mean(numbers: jax.Array) -> jax.Array:
        return jnp.where(scored, numbers, 0).sum(axis=1) / count

    return {
        "correct": mean(right),
        "margin": mean(margins),
        "logprob": mean(-losses),
        "exact": (right | ~second_half).all(axis=1),
    }


next_token = Task("next-token", _document_loss, _document_outcomes, weights=_n_scored)
next_token_by_document = Task("next-token-by-document", _document_loss, _document_outcomes)

TASKS = {task.name: task for task in (classification, next_token, next_token_by_document)}


def choose_task(given: str | Task | None, dataset: Dataset) -> Task:
    """The task that was given, by name or itself; None for the one that fits the data.

    Raises:
        InputError: Where data and task do not fit each other.
    """
    if isinstance(given, Task):
        return given
    task = TASKS[given or ("next-token" if dataset.is_documents else "classification")]
    if dataset.is_documents == (task is classification):
        raise InputError(
            f"task {task.name}: expected {'labelled examples' if dataset.is_documents else 'documents (text:FILE)'}, got "
            f"{dataset!r}"
        )
    if dataset.targets is not None:
        raise InputError("task: this data has targets of its own kind; give the task they are for, task=infl.Task(...)")
    return task
