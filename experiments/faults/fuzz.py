"""Feeds a reader with cases that Hypothesis draws, and counts those that it neither read nor refused in one line.

A case fails where the reader raises anything but InputError, takes longer than ten seconds, or the process grows by more than
half a gigabyte. The same seed draws the same cases.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from readers import Reader

LONGEST_SECONDS, MOST_GROWTH_MB = 10.0, 512


def fuzz(reader: Reader, n_cases: int, *, seed: int) -> dict[str, Any]:
    """Feed a reader with cases; how many, how many of them it accepted, which failed, the slowest and the growth of memory."""
    accepted, slowest, begun, failed, n = 0, 0.0, time.perf_counter(), [], 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        reader.prepare(folder)
        reader.survives(folder, b"")
        before = _peak_mb()

        @seeded(seed)
        @settings(
            max_examples=n_cases,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        )
        @given(reader.cases)
        def case(content: bytes) -> None:
            nonlocal accepted, slowest, n
            start = time.perf_counter()
            n += 1
            try:
                accepted += reader.survives(folder, content)
            except BaseException as error:
                said = str(error).replace(str(folder), "FOLDER")
                failed.append(f"{type(error).__name__}: {said[:100]}: {content[:200]!r}")
            slowest = max(slowest, time.perf_counter() - start)

        case()
    growth = _peak_mb() - before
    if slowest > LONGEST_SECONDS or growth > MOST_GROWTH_MB:
        failed.append(f"slowest case {slowest:.1f} s, growth {growth} MB")
    return {
        "seed": seed,
        "cases": n,
        "accepted": accepted,
        "failed": len(failed),
        "failures": failed[:5],
        "slowest_seconds": round(slowest, 3),
        "growth_mb": growth,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
