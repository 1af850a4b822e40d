"""Trains a block of models a few epochs at a time, so that what they have become can be kept in between.

Where `Ensemble` has one program, here are three: begin, from keys to states; advance, from states before one epoch to states
before another, both of them data; conclude, from states to outcomes. All are laid out on the devices as the ensemble says. An
epoch follows from the key and its number, so the cuts between the segments change no bit of the outcomes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infl.records import Array
from infl.training import algorithm as one
from infl.training.algorithm import TrainingState
from infl.training.ensemble import BlockOutcomes, Ensemble, Layout, PlacedBlock, map_first

# The leaves of the `TrainingState` of every model of a block, [block_size, ...] each; of keys their words.
States = list[jax.Array]


def train_in_segments(
    segments: Segments,
    block: PlacedBlock,
    *,
    seconds_between: float,
    keep: Callable[[int, States], None],
    reached: tuple[int, States] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> BlockOutcomes:
    """Train a block to its end and keep its states on the way.

    The first segment is one epoch; each other one has as many as, by the time that the last took, fit into what is left until
    the states are to be kept again, and one at least.

    keep: called with the number of epochs done and the states, which are good until it returns; never after the last epoch.
    seconds_between: two calls of it at least.
    reached: epochs done and states from which to go on; None for the beginning.
    """
    segments.compile()  # which is no part of the first epoch
    epochs = segments.ensemble.algorithm.epochs
    done, states = (0, segments.begin(block)) if reached is None else reached
    n_next, kept = 1, clock()
    while done < epochs:
        start, last = clock(), min(done + n_next, epochs)
        states = jax.block_until_ready(segments.advance(block, states, done, last))
        now = clock()
        seconds_an_epoch, done = max(now - start, 1e-9) / (last - done), last
        if now - kept >= seconds_between and done < epochs:
            keep(done, states)
            kept = clock()
        n_next = max(1, int(min((seconds_between - (clock() - kept)) / seconds_an_epoch, epochs)))
    return segments.conclude(block, states)


class Lowered(NamedTuple):
    """The programs for a layout, not compiled. shapes: of the states; fingerprint: SHA-256 of what the programs compute."""

    programs: tuple[jax.stages.Lowered, ...]
    shapes: list[jax.ShapeDtypeStruct]
    fingerprint: str


class Segments:
    """The three programs of an ensemble, in the layout that it has when they are called; compiled once for each."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self._lowered: tuple[Layout, Lowered] | None = None
        self._compiled: tuple[jax.stages.Compiled, ...] | None = None

    def begin(self, block: PlacedBlock) -> States:
        """The states of the models of a block before their first epoch."""
        return self.compile()[0](block.key_data, block.counts)

    def advance(self, block: PlacedBlock, states: States, first: int, last: int) -> States:
        """Train from before epoch `first` to before epoch `last`. The states that are given are used up."""
        ensemble, numbers = self.ensemble, (first, last, self.ensemble.algorithm.epochs)
        return self.compile()[1](
            *(states, block.key_data, block.masks, block.counts, block.most_steps),
            *(np.int32(number) for number in numbers),
            *(ensemble.images, ensemble.labels),
        )

    def conclude(self, block: PlacedBlock, states: States) -> BlockOutcomes:
        """The outcomes of models after their last epoch."""
        ensemble = self.ensemble
        judged = self.compile()[2](states, block.masks, block.counts, ensemble.images, ensemble.labels)
        return BlockOutcomes(*(np.asarray(array)[block.places] for array in judged))

    def restored(self, arrays: list[Array]) -> States:
        """States from arrays that were kept, put on the devices."""
        return [jax.device_put(array, self.ensemble.by_model) for array in arrays]

    def describe(self, block: PlacedBlock) -> dict[str, Any]:
        """What states are states of, as JSON: others in any of it cannot go on where these stand."""
        ensemble = self.ensemble
        models = hashlib.sha256(np.asarray(block.key_data).tobytes() + np.asarray(block.masks).tobytes())
        return {
            "models": models.hexdigest(),
            "epochs": ensemble.algorithm.epochs,
            "layout": ensemble.layout.describe(),
            "devices": [f"{device.platform}:{device.device_kind}" for device in ensemble.devices],
            "jax": jax.__version__,
            "programs": self.lower().fingerprint,
        }

    def lower(self) -> Lowered:
        """The programs for the layout that the ensemble has now."""
        if self._lowered is None or self._lowered[0] != self.ensemble.layout:
            self._lowered, self._compiled = (self.ensemble.layout, _lower(self.ensemble)), None
        return self._lowered[1]

    def compile(self) -> tuple[jax.stages.Compiled, ...]:
        """The same, compiled: begin, advance, conclude."""
        lowered = self.lower()
        if self._compiled is None:
            self._compiled = tuple(map(self.ensemble.compile_lowered, lowered.programs))
        return self._compiled


def _lower(ensemble: Ensemble) -> Lowered:
    settings: dict[str, Any] = {"algorithm": ensemble.algorithm, "network": ensemble.network}
    in_turn = ensemble.mode == "map"
    begin_one = partial(one.begin, pixels_shape=ensemble.images.shape[1:], **settings)
    packing = _Packing(begin_one)

    def begin(key_data: jax.Array, counts: jax.Array) -> States:
        keys = jax.random.wrap_key_data(key_data)

        def begin_next(key: jax.Array) -> States:
            return packing.leaves(begin_one(one.keys_of_model(key)))

        return map_first(begin_next, counts[0], keys) if in_turn else jax.vmap(begin_next)(keys)

    def advance(
        states: States,
        key_data: jax.Array,
        masks: jax.Array,
        counts: jax.Array,
        most_steps: jax.Array,
        first: jax.Array,
        last: jax.Array,
        epochs: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> States:
        keys = jax.random.wrap_key_data(key_data)
        bounds: dict[str, Any] = {"first": first, "last": last, "epochs": epochs}

        def advance_one(leaves: States, key: jax.Array, members: jax.Array) -> States:
            state, keys_of_it, most = packing.state(leaves), one.keys_of_model(key), None if in_turn else most_steps
            return packing.leaves(
                one.advance(state, keys_of_it, members, images, labels, most_steps=most, **bounds, **settings)
            )

        def advance_next(i: jax.Array, states: States) -> States:
            mine = advance_one([leaf[i] for leaf in states], keys[i], masks[i])
            return jax.tree.map(partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0), states, mine)

        if in_turn:  # in the memory of the states: a second copy of them might not fit
            return jax.lax.fori_loop(0, counts[0], advance_next, states)
        return jax.vmap(advance_one)(states, keys, masks)

    def conclude(
        states: States, masks: jax.Array, counts: jax.Array, images: jax.Array, labels: jax.Array
    ) -> one.TrainedModel:
        def conclude_one(leaves: States, members: jax.Array) -> one.TrainedModel:
            return one.conclude(packing.state(leaves), members, images, labels, **settings)

        if in_turn:
            return map_first(conclude_one, counts[0], states, masks)
        return jax.vmap(conclude_one)(states, masks)

    key_data, masks, counts = ensemble.block_shapes()
    data, number = (ensemble.images, ensemble.labels), np.int32(1)
    shapes = [
        jax.ShapeDtypeStruct((ensemble.block_size, *leaf.shape), leaf.dtype, sharding=ensemble.by_model)
        for leaf in packing.shapes
    ]
    lowered = (
        ensemble.lower(begin, (key_data, counts), ()),
        ensemble.lower(advance, (shapes, key_data, masks, counts), (number,) * 4 + data, donate=(0,)),
        ensemble.lower(conclude, (shapes, masks, counts), data),
    )
    fingerprint = hashlib.sha256("\n".join(program.as_text() for program in lowered).encode()).hexdigest()
    return Lowered(lowered, shapes, fingerprint)


class _Packing:
    """Between the tree of a `TrainingState` and a list of plain arrays, of which keys are none."""

    def __init__(self, begin_one: Callable[[one.ModelKeys], TrainingState]) -> None:
        kinds: list[Any] = []  # which the keys in a state tell only while it is traced

        def begin(key: jax.Array) -> TrainingState:
            state = begin_one(one.keys_of_model(key))
            kinds[:] = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in jax.tree.leaves(state)]
            return state

        like = jax.eval_shape(begin, jax.random.key(0))
        self._structure, self._kinds = jax.tree.structure(like), kinds
        self.shapes = jax.eval_shape(self.leaves, like)

    def leaves(self, state: TrainingState) -> States:
        return [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(state)]

    def state(self, leaves: States) -> TrainingState:
        kinds = zip(leaves, self._kinds, strict=True)
        typed = [leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind) for leaf, kind in kinds]
        return jax.tree.unflatten(self._structure, typed)


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
