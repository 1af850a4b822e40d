"""The two real data sets of these experiments, and the models of their subsets: trained once, read by all scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fashion import FASHION

import infl
from infl.store import Run

N_DATA, N_REFERENCE = 4096, 8192  # models that scores are made from; others that tell what they should be
SMALL = {"data": 60, "reference": 120}

DATA: dict[str, dict[str, Any]] = {
    "digits": {"source": "digits", "n_train": 1000, "n_held_out": 797},
    "fashion": {"source": FASHION, "n_train": 2000, "n_held_out": 1000},
}
ALGORITHMS = {
    "digits": infl.Algorithm(hidden=(256,), batch_size=50, learning_rate=0.05, epochs=30),
    "fashion": infl.Algorithm(hidden=(128,), batch_size=50, learning_rate=0.05, epochs=8, schedule="cosine"),
}


def names(*, small: bool) -> tuple[str, ...]:
    """Worlds that an experiment runs on; Fashion-MNIST is not on every machine that runs the small size."""
    return ("digits",) if small else ("digits", "fashion")


def open_world(name: str, work: Path, *, small: bool = False) -> Run:
    """The run of a data set, trained as far as it is not: balanced subsets of 70%."""
    given = {**DATA[name], **({"n_train": 200, "n_held_out": 100} if small else {})}
    source = given.pop("source")
    return infl.train(
        infl.load(source, **given),
        run=work / f"{name}-balanced",
        n_models=sum(SMALL.values()) if small else N_DATA + N_REFERENCE,
        n_references=0,
        design=infl.Design("balanced", 0.7),
        algorithm=infl.Algorithm(hidden=(16,), epochs=3) if small else ALGORITHMS[name],
        quiet=small,
    )
