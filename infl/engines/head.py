"""Holds a Ray cluster of this machine for as long as the process that asked for it lives: `python -m infl.engines.head`.

Ray starts its processes by fork, which may lock up a process in which JAX runs. So this process, which has no JAX, starts them,
prints the address of the cluster on one line, and ends it when its standard input closes - also where its parent was killed.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Start a cluster as the environment says, print its address, wait, end it."""
    import ray

    ray.init(address="local", include_dashboard=False, configure_logging=False, log_to_driver=False)
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()
