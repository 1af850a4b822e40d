"""What tests of streaming share: outcomes that come in blocks of a given size, and the memory that a call takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from infl.records import OUTCOME_KINDS, Columns, OutcomeKind, Outcomes


class InBlocks:
    """Outcomes that are read in blocks of `rows` models, whatever is asked for."""

    def __init__(self, whole: Outcomes, rows: int) -> None:
        self.n_models, self.n_train, self.n_columns = whole.n_models, whole.n_train, whole.n_columns
        self._whole, self._rows = whole, rows

    def blocks(
        self, columns: Columns = slice(None), *, n_rows: int = 512, kinds: Sequence[OutcomeKind] = OUTCOME_KINDS
    ) -> Iterator[Outcomes]:
        return self._whole.blocks(columns, n_rows=self._rows, kinds=kinds)


def peak_bytes(call: Callable[[], Any]) -> int:
    """Most bytes that Python and NumPy held at once during a call, beyond those held before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
