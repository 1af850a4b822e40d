"""Which examples each model of a run trains on: turns the name of a collection and model numbers into masks."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from infl.records import Array, ForgetSet, Groups
from infl.training.subsets import Design, draw_masks

MasksOf = Callable[[str, list[int]], Array]  # of a collection, and models of it: [B, n]


def masks_of_run(
    design: Design,
    *,
    n_train: int,
    seed: int,
    covers: dict[str, Groups] | None = None,
    left_out: dict[str, ForgetSet] | None = None,
) -> MasksOf:
    """The masks of a run of this design and seed, a function of collection and models.

    covers: groups of the collections that cover sets; left_out: the sets of those of models without one.
    """
    designs = {name: part for name, (part, _) in design.parts(2).items()} | {"full": Design("full")}
    for name, groups in (covers or {}).items():
        designs[name] = Design("grouped", (min(design.range[0], 0.7), 0.99), groups=groups)
    for name, forget_set in (left_out or {}).items():
        designs[name] = Design("leave-out", left_out=forget_set.ids)

    def masks_of(collection: str, models: list[int]) -> Array:
        # Covering designs differ in their sets: each has random bits of its own.
        own = zlib.crc32(collection.encode()) if collection.startswith("cover-") else 0
        return draw_masks(designs[collection], models, n_train=n_train, seed=seed + own)

    return masks_of
