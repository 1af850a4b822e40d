"""Two CPU devices for all tests, whatever the machine, so that sharding is always tested. Set before JAX starts.

A cache folder of their own, too: no test may read or write the user's.
"""

import atexit
import os
import shutil
import tempfile

import jax
import pytest

import infl

jax.config.update("jax_num_cpu_devices", 2)
os.environ["INFL_CACHE_DIR"] = tempfile.mkdtemp(prefix="infl-cache-")
atexit.register(shutil.rmtree, os.environ["INFL_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def small_digits() -> infl.Dataset:
    """Sixty training and thirty held-out digits."""
    return infl.load("digits", n_train=60, n_held_out=30)
