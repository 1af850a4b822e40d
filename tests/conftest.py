"""Two CPU devices for all tests, whatever the machine, so that sharding is always tested. Set before JAX starts."""

import jax
import pytest

import infl

jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(scope="session")
def small_digits() -> infl.Dataset:
    """Sixty training and thirty held-out digits."""
    return infl.load("digits", n_train=60, n_held_out=30)
