r"""Methods by gradient steps.

Formulas: l_i loss and m_i margin of example i, theta_0 the weights of A(D), mean_R over a batch of D\S, mean_S over one of S.
`rate` is a factor on the updates of A's own optimizer: 1 is its learning rate in training. Defaults come from a
prototype on digits, not from the published codes, which the docstrings name.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from infl.records import InputError
from infl.unlearning.descent import Batch, count_steps, descend, divergence, own_optimizer, take_steps
from infl.unlearning.problem import Problem

AFFECTED = 1.0  # expected change of a margin from which a retained example counts as affected
SCRUB_BATCH = 16


def fine_tune(params: Any, key: jax.Array, problem: Problem, *, rate: Any = 4.0, epochs: Any = 10.0) -> Any:
    r"""Go on training on D\S: min mean_R l.

    Published with the last, small learning rate of training (RUM, Zhao et al. 2024: 10 epochs at 0.01). There the gradient on
    D\S is close to zero and nothing happens; at the first one or above it S fades.
    """
    return _train_layers(params, key, problem, moves=None, rate=rate, epochs=epochs)


def gradient_ascent(params: Any, key: jax.Array, problem: Problem, *, rate: Any = 0.2, epochs: Any = 5.0) -> Any:
    r"""Go up the loss of S: max mean_S l, D\S unseen (Graves et al. 2021).

    Unbounded: it runs far past A(D\S) and takes others along.
    """
    ascend = partial(_forget_loss, problem)
    return descend(
        problem,
        params,
        key,
        lambda params, batch: -ascend(params, batch),
        optimizer=own_optimizer(problem, rate),
        epochs=epochs,
        members=problem.forget,
    )


def ascent_to_level(params: Any, key: jax.Array, problem: Problem, *, rate: Any = 0.2, epochs: Any = 20.0) -> Any:
    r"""Gradient ascent that stops for each example of S by itself: max mean_S l_i [m_i > m_i(theta_0) + change_i].

    The level is the model's own margin plus the expected change to A(D\S). Stopped at the mean over S instead, some are pushed
    far below while others have not moved.
    """
    level = _expected_margins(problem, params)
    return descend(
        problem,
        params,
        key,
        lambda params, batch: -_loss_above(problem, level, params, batch),
        optimizer=own_optimizer(problem, rate),
        epochs=epochs,
        members=problem.forget,
    )


def neggrad_plus(
    params: Any, key: jax.Array, problem: Problem, *, alpha: Any = 0.98, rate: Any = 1.0, epochs: Any = 5.0
) -> Any:
    r"""Down on D\S and up on S: min alpha mean_R l - (1 - alpha) mean_S l (Kurmanji et al. 2023); alpha = 1 is fine-tuning.

    RUM's parser shares one `--alpha`, 0.2 by default, among three methods: far too small for this one. S is seen
    |D\S| / |S| times an epoch.
    """

    def objective(params: Any, batch: Batch) -> jax.Array:
        return alpha * _retain_loss(problem, params, batch) - (1 - alpha) * _forget_loss(problem, params, batch)

    return descend(problem, params, key, objective, optimizer=own_optimizer(problem, rate), epochs=epochs)


def neggrad_to_level(
    params: Any, key: jax.Array, problem: Problem, *, weight: Any = 0.1, rate: Any = 0.5, epochs: Any = 10.0
) -> Any:
    r"""NegGrad+ that stops for each example of S at its level: min mean_R l - weight mean_S l_i [m_i > level_i].

    Levels as in `ascent_to_level`.
    """
    level = _expected_margins(problem, params)

    def objective(params: Any, batch: Batch) -> jax.Array:
        return _retain_loss(problem, params, batch) - weight * _loss_above(problem, level, params, batch)

    return descend(problem, params, key, objective, optimizer=own_optimizer(problem, rate), epochs=epochs)


def random_labels(params: Any, key: jax.Array, problem: Problem, *, rate: Any = 1.0, epochs: Any = 10.0) -> Any:
    r"""Train on D with a wrong label for each of S, drawn once (Graves et al. 2021; SalUn's code: 10 epochs at 0.01).

    Published codes draw from all classes, the true one too. S is driven to uniform confidence, where A(D\S) is often sure and
    right; noise of the labels makes some tests of distributions pass.
    """
    return _relabel(params, key, problem, rate=rate, epochs=epochs)


def salun(
    params: Any, key: jax.Array, problem: Problem, *, fraction: Any = 0.5, rate: Any = 1.0, epochs: Any = 10.0
) -> Any:
    """Random labels, moving the `fraction` of the weights alone whose |gradient of the loss of S| is largest (Fan et al. 2024).

    Until February 2026 the published code moved the other weights too, by momentum and weight decay; here their updates are
    zero. It sums gradients over batches before the absolute value, as here over all of S.
    """
    gradient = jax.grad(lambda params: (problem.on_all(partial(problem.losses, params)) * problem.forget).sum())(params)
    sizes = jnp.concatenate([jnp.abs(leaf).ravel() for leaf in jax.tree.leaves(gradient)])
    least = jnp.quantile(sizes, 1 - fraction)
    moves = jax.tree.map(lambda leaf: (jnp.abs(leaf) >= least).astype(leaf.dtype), gradient)
    return _relabel(params, key, problem, rate=rate, epochs=epochs, moves=moves)


def npo(params: Any, key: jax.Array, problem: Problem, *, beta: Any = 1.0, rate: Any = 0.2, epochs: Any = 5.0) -> Any:
    r"""Negative preference optimization: min (2 / beta) mean_S log(1 + (p / p_0)^beta) + mean_R l (Zhang et al. 2024).

    p is the probability of the label, of a document that of all of its tokens, so that long ones count for more. p_0 is that of
    theta_0, computed once. beta towards 0 is gradient ascent. open-unlearning: beta 0.1, 10 epochs.
    """
    before = problem.on_all(partial(problem.losses, params))

    def objective(params: Any, batch: Batch) -> jax.Array:
        log_ratio = (before[batch.forget] - problem.losses(params, batch.forget)) * problem.lengths(batch.forget)
        forget = 2 / beta * jax.nn.softplus(beta * log_ratio).mean()
        return forget + _retain_loss(problem, params, batch)

    return descend(problem, params, key, objective, optimizer=own_optimizer(problem, rate), epochs=epochs)


def simnpo(
    params: Any,
    key: jax.Array,
    problem: Problem,
    *,
    beta: Any = 2.5,
    gamma: Any = 0.0,
    weight: Any = 0.1375,
    rate: Any = 0.2,
    epochs: Any = 5.0,
) -> Any:
    r"""NPO without a reference: min -weight (2 / beta) mean_S log sigma(beta l - gamma) + mean_R l (Fan et al. 2024).

    l is the loss of a token, so long documents count as short ones. beta, gamma and weight are of the published TOFU settings,
    by which two users got a forget quality of 4e-6 for the paper's 0.99 (Unlearn-Simple #7).
    """

    def objective(params: Any, batch: Batch) -> jax.Array:
        forget = -2 / beta * jax.nn.log_sigmoid(beta * problem.losses(params, batch.forget) - gamma).mean()
        return weight * forget + _retain_loss(problem, params, batch)

    return descend(problem, params, key, objective, optimizer=own_optimizer(problem, rate), epochs=epochs)


def scrub(
    params: Any,
    key: jax.Array,
    problem: Problem,
    *,
    alpha: Any = 0.5,
    gamma: Any = 1.0,
    temperature: Any = 2.0,
    max_epochs: Any = 3.0,
    epochs: Any = 8.0,
    learning_rate: Any = 3e-3,
) -> Any:
    r"""Leave the teacher theta_0 on S, stay with it elsewhere (Kurmanji et al. 2023).

    Each of the first `max_epochs` epochs begins with a pass through S in batches of 16 that maximizes KL(teacher || student);
    every epoch goes through D\S minimizing gamma l + alpha KL. Adam; the published code adds weight decay 0.1. EasyDUB's builds
    its optimizer on the teacher, so that its student never moves; `epoch <= msteps` from 0 or from 1 differs by a pass.
    """
    # The first step away begins at the teacher: its gradient is rounding errors, which a smaller eps would make a step of.
    optimizer = optax.adam(learning_rate, eps=1e-5)
    sizes = (SCRUB_BATCH, problem.algorithm.batch_size)

    def kl(student: Any, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = problem.outputs(student, ids)
        return divergence(problem.outputs(params, ids), outputs, temperature).mean(), outputs

    def stay(student: Any, batch: Batch) -> jax.Array:
        value, outputs = kl(student, batch.retained)
        return gamma * _mean(problem, problem.losses_of(outputs, batch.retained), batch.retained) + alpha * value

    def epoch(number: jax.Array, carry: Any) -> Any:
        keys = jax.random.split(jax.random.fold_in(key, number))
        n_forget = jnp.where(number < max_epochs, count_steps(problem.forget, 1, sizes[0]), 0)
        passes = (
            (lambda student, batch: -kl(student, batch.retained)[0], problem.forget, sizes[0], n_forget),
            (stay, ~problem.forget, sizes[1], count_steps(~problem.forget, 1, sizes[1])),
        )
        for own_key, (objective, members, batch_size, n_steps) in zip(keys, passes, strict=True):
            steps: Any = {"members": members, "batch_size": batch_size, "n_steps": n_steps}
            carry = take_steps(problem, carry, own_key, objective, optimizer=optimizer, **steps)
        return carry

    n_epochs = jnp.asarray(epochs, jnp.int32)
    return jax.lax.fori_loop(0, n_epochs, epoch, (params, optimizer.init(params)))[0]


def bad_teacher(params: Any, key: jax.Array, problem: Problem, *, learning_rate: Any = 1e-3, epochs: Any = 5.0) -> Any:
    r"""Be as a network of random weights on S and as theta_0 on D\S: min KL in both (Chundawat et al. 2023), Adam.

    The published code takes torch's default mean of `kl_div`, over batch and classes: its steps are C times smaller than they
    read.
    """
    draw, key = jax.random.split(key)
    bad = problem.new_params(draw)

    def objective(student: Any, batch: Batch) -> jax.Array:
        sides = ((params, batch.retained), (bad, batch.forget))
        kl = [divergence(problem.outputs(one, ids), problem.outputs(student, ids)).mean() for one, ids in sides]
        return kl[0] + kl[1]

    return descend(problem, params, key, objective, optimizer=optax.adam(learning_rate), epochs=epochs)


def last_layers_anew(
    params: Any, key: jax.Array, problem: Problem, *, layers: Any = 1.0, rate: Any = 4.0, epochs: Any = 10.0
) -> Any:
    r"""EU-k: draw the last `layers` layers anew and train them alone on D\S (Goel et al. 2022). What is below still knows S."""
    draw, key = jax.random.split(key)
    moves = _last_layers(params, layers)
    fresh = jax.tree.map(lambda new, old, move: jnp.where(move > 0, new, old), problem.new_params(draw), params, moves)
    return _train_layers(fresh, key, problem, moves=moves, rate=rate, epochs=epochs)


def last_layers(
    params: Any, key: jax.Array, problem: Problem, *, layers: Any = 1.0, rate: Any = 4.0, epochs: Any = 10.0
) -> Any:
    r"""CF-k: fine-tune the last `layers` layers alone on D\S (Goel et al. 2022); a k means little across networks."""
    moves = _last_layers(params, layers)
    return _train_layers(params, key, problem, moves=moves, rate=rate, epochs=epochs)


def l1_sparse(
    params: Any, key: jax.Array, problem: Problem, *, alpha: Any = 1e-5, rate: Any = 4.0, epochs: Any = 10.0
) -> Any:
    r"""Fine-tuning with a penalty that fades: min mean_R l + alpha (1 - t / T) |theta|_1 (Jia et al. 2023).

    Papers take 5e-4 for large networks, RUM's shared `--alpha` is 0.2: both ruin small ones.
    """

    def objective(params: Any, batch: Batch) -> jax.Array:
        size = sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(params))
        return _retain_loss(problem, params, batch) + alpha * (1 - batch.done) * size

    return descend(problem, params, key, objective, optimizer=own_optimizer(problem, rate), epochs=epochs)


def match(params: Any, key: jax.Array, problem: Problem, *, learning_rate: Any = 3e-3, epochs: Any = 8.0) -> Any:
    r"""Fit each margin to where A(D\S) is expected to have it: min mean (m_i - m_i(theta_0) - change_i)^2, Adam, decaying.

    Means over D\S, over S and over the retained examples whose change is 1 or more, added. After the datamodel matching of
    Georgiev et al. 2024 (2410.23232); but the change of the mean over models is added to each model's own margin, since one
    target for all would make them alike. Predicted large drops are too small by up to a half.
    """
    change = problem.change[: problem.n_train]
    affected = ~problem.forget & (jnp.abs(change) >= AFFECTED)
    target = _expected_margins(problem, params)
    return _match_margins(params, key, problem, target, affected, learning_rate=learning_rate, epochs=epochs)


def stop_then_match(
    params: Any, key: jax.Array, problem: Problem, *, first: Any = 4.0, learning_rate: Any = 6e-3, epochs: Any = 5.0
) -> Any:
    r"""`neggrad_to_level` for `first` epochs, then `match` to the margins that this would have fitted from the start.

    The first part gets large drops, and what shares them, out of the way of the second, which takes back what went too far;
    retained examples that the first part left away from them count as affected. Nearer to A(D\S) than either part by itself,
    and than the published methods tried, on digits and Fashion-MNIST that did not choose it (experiments/unlearning).
    """
    keys = jax.random.split(key)
    target = _expected_margins(problem, params)
    moved = neggrad_to_level(params, keys[0], problem, epochs=first)
    away = target - problem.on_all(partial(problem.margins, moved))
    affected = ~problem.forget & (jnp.abs(away) >= AFFECTED)
    return _match_margins(moved, keys[1], problem, target, affected, learning_rate=learning_rate, epochs=epochs)


def push(
    params: Any,
    key: jax.Array,
    problem: Problem,
    *,
    margin: Any = -20.0,
    learning_rate: Any = 3e-3,
    epochs: Any = 8.0,
) -> Any:
    r"""Push S to one low margin and hold everyone else at its own: `match` with the target `margin` for S.

    For unlearning a concept of which S is a part: what S shares with the rest of it goes along, down to where models that never
    saw it are. It untrains nothing: A(D\S) is often right about S.
    """
    own = problem.on_all(partial(problem.margins, params))
    target = jnp.where(problem.forget, margin, own)
    nobody = jnp.zeros_like(problem.forget)
    return _match_margins(params, key, problem, target, nobody, learning_rate=learning_rate, epochs=epochs)


def _mean(problem: Problem, losses: jax.Array, ids: jax.Array) -> jax.Array:
    """Over a batch, as in training."""
    lengths = problem.lengths(ids)
    return lengths @ losses / lengths.sum()


def _retain_loss(problem: Problem, params: Any, batch: Batch) -> jax.Array:
    return _mean(problem, problem.losses(params, batch.retained), batch.retained)


def _forget_loss(problem: Problem, params: Any, batch: Batch) -> jax.Array:
    return _mean(problem, problem.losses(params, batch.forget), batch.forget)


def _expected_margins(problem: Problem, params: Any) -> jax.Array:
    r"""The model's own margins on D plus their expected change to A(D\S), [n]."""
    return problem.on_all(partial(problem.margins, params)) + problem.change[: problem.n_train]


def _loss_above(problem: Problem, level: jax.Array, params: Any, batch: Batch) -> jax.Array:
    """Mean loss over a batch of S of those whose margin is above its level, none of the others."""
    ids = batch.forget
    above = problem.margins(jax.lax.stop_gradient(params), ids) > level[ids]
    return _mean(problem, jnp.where(above, problem.losses(params, ids), 0), ids)


def _match_margins(
    params: Any,
    key: jax.Array,
    problem: Problem,
    target: jax.Array,
    affected: jax.Array,
    *,
    learning_rate: Any,
    epochs: Any,
) -> Any:
    draw, key = jax.random.split(key)
    n_affected = affected.sum()
    order = jnp.argsort(jnp.where(affected, jax.random.uniform(draw, affected.shape), 2.0))

    def objective(params: Any, batch: Batch) -> jax.Array:
        size = len(batch.retained)
        some = order[(batch.step * size + jnp.arange(size)) % jnp.maximum(n_affected, 1)]
        ids = jnp.concatenate([batch.retained, batch.forget, some])
        errors = jnp.square(problem.margins(params, ids) - target[ids]).reshape(3, size).mean(axis=1)
        return errors @ jnp.array([1, 1, n_affected > 0])

    return descend(problem, params, key, objective, optimizer=optax.adam(learning_rate), epochs=epochs, decay=True)


def _relabel(params: Any, key: jax.Array, problem: Problem, *, rate: Any, epochs: Any, moves: Any = None) -> Any:
    if problem.targets.ndim > 1 or jnp.issubdtype(problem.targets.dtype, jnp.floating) or problem.task.n_outputs:
        raise InputError("random labels: expected classes; for other targets take npo or neggrad+")
    *positions, n_classes = jax.eval_shape(problem.outputs, params, jnp.zeros(1, jnp.int32)).shape[1:]
    if positions:
        raise InputError("random labels: documents have none; take npo or simnpo")
    draw, key = jax.random.split(key)
    shift = jax.random.randint(draw, (problem.n_train,), 1, n_classes)
    own = problem.targets[: problem.n_train]
    labels = jnp.where(problem.forget, (own + shift) % n_classes, own)

    def objective(params: Any, batch: Batch) -> jax.Array:
        return problem.losses(params, batch.retained, labels[batch.retained]).mean()

    settings: Any = {"epochs": epochs, "members": jnp.ones_like(problem.forget), "moves": moves}
    return descend(problem, params, key, objective, optimizer=own_optimizer(problem, rate), **settings)


def _train_layers(params: Any, key: jax.Array, problem: Problem, *, moves: Any, rate: Any, epochs: Any) -> Any:
    r"""Fine-tune on D\S, all weights where `moves` is None."""
    optimizer = own_optimizer(problem, rate)
    return descend(
        problem, params, key, partial(_retain_loss, problem), optimizer=optimizer, epochs=epochs, moves=moves
    )


def _last_layers(params: Any, n_layers: Any) -> Any:
    """1 for the weights of the last so many layers, in the order of their numbered names, else 0, as params."""
    paths = [jax.tree_util.keystr(path[:-1], simple=True, separator="/") for path, _ in _with_paths(params)]
    layers = sorted(set(paths), key=lambda path: [int(part) if part.isdigit() else part for part in _WORDS(path)])
    ranks = [len(layers) - 1 - layers.index(path) for path in paths]
    moved = [jnp.asarray(rank < n_layers, jnp.float32) for rank in ranks]
    return jax.tree.unflatten(jax.tree.structure(params), moved)


_with_paths = jax.tree_util.tree_leaves_with_path
_WORDS = re.compile(r"\d+|\D+").findall
