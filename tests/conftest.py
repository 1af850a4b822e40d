"""Two CPU devices for all tests, whatever the machine, so that sharding is always tested. Set before JAX starts.

A cache folder of their own, too: no test may read or write the user's. All tests, those that run side by side in other
processes as well, and the commands that they start, keep XLA's compiled programs in one folder: most of them train the same few
networks, and compiling those took two thirds of their time.
"""

import atexit
import os
import shutil
import tempfile

os.environ["INFL_CACHE_DIR"] = tempfile.mkdtemp(prefix="infl-cache-")
atexit.register(shutil.rmtree, os.environ["INFL_CACHE_DIR"], ignore_errors=True)
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["INFL_CACHE_DIR"], "programs")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402  it reads the environment when it is imported
import pytest  # noqa: E402

import infl  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(scope="session")
def small_digits() -> infl.Dataset:
    """Sixty training and thirty held-out digits."""
    return infl.load("digits", n_train=60, n_held_out=30)
