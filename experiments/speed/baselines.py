"""The machine's own matrix product, as each library has it, and the arm of scikit-learn."""

from __future__ import annotations

import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from processes import cores, run_together
from tasks import Task


def measure_sgemm(*, seconds: float, processes: int | None = None) -> dict[str, Any]:
    """Rate of the float32 product of 2048 x 2048 matrices, all cores together, one single-threaded process on each.

    gflop_per_second: of the fastest library; by_library: of each that is installed.
    """
    found = [name for name in ("numpy", "jax", "torch") if importlib.util.find_spec(name) is not None]
    jobs = {name: [(name, seconds / len(found))] * (processes or len(cores())) for name in found}
    rates = {name: sum(run_together(_multiply, parts)) for name, parts in jobs.items()}
    return {"gflop_per_second": max(rates.values()), "by_library": rates}


def scikit_learn(task: Task, pixels: Any, labels: Any, *, steps: int | None = None) -> tuple[Any, float]:
    """MLPClassifier, model after model in one process per core: what joblib does with n_jobs, without what joblib costs."""
    from sklearn.neural_network import MLPClassifier

    x = pixels.reshape(len(pixels), -1)

    assert steps is None, "MLPClassifier trains whole epochs"

    def train(subsets: list[Any], seed: int) -> Any:
        return np.array([fit(members, seed * 100_000 + number) for number, members in enumerate(subsets)])

    def fit(members: Any, seed: int) -> Any:
        model = MLPClassifier(
            task.hidden,
            solver="sgd",
            alpha=0.0,
            batch_size=task.batch,  # pyright: ignore[reportArgumentType]
            learning_rate_init=task.learning_rate,
            momentum=task.momentum,
            nesterovs_momentum=False,
            max_iter=task.epochs,
            n_iter_no_change=task.epochs + 1,
            tol=0.0,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged after these epochs, and shall not
            model.fit(x[members], labels[members])
        log_p = model.predict_log_proba(x)
        return log_p.argmax(axis=1) == labels

    return train, 0.0


def _multiply(library: str, seconds: float, ready: Any) -> float:
    product = _product(library, np.random.RandomState(0).rand(2048, 2048).astype(np.float32))
    product()
    ready()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        product()
        count += 1
    return count * 2 * 2048**3 / (time.perf_counter() - start) / 1e9


def _product(library: str, a: Any) -> Callable[[], Any]:
    if library == "jax":
        import jax

        multiply, x = jax.jit(lambda x: x @ x), jax.device_put(a)
        return lambda: multiply(x).block_until_ready()
    if library == "torch":
        torch = importlib.import_module("torch")
        torch.set_num_threads(1)
        tensor = torch.from_numpy(a)
        return lambda: tensor @ tensor
    return lambda: a @ a
