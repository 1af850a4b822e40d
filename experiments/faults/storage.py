"""Kills processes that train in a run on object storage, an S3 server of this machine, and compares with a run on disk."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import obstore
from kills import DATA, SIZES, run_to_its_end, same_outcomes, start
from moto.server import ThreadedMotoServer
from obstore.store import from_url

import infl

MODELS = ["--n-models", "96", "--n-references", "8"]
N_KILLS, LONGEST_WAIT = 5, 4.0


def storage_rounds(folder: Path, seeds: Iterator[int]) -> Iterator[dict[str, Any]]:
    """Train in a run on the storage, killed a few times and started again; yield what it then holds."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).create_bucket(Bucket="bucket")
    folder.mkdir(parents=True)
    run_to_its_end(["train", *DATA, *SIZES, *MODELS, "--run", str(folder / "disk")], folder)
    on_disk = infl.open_run(folder / "disk")
    for seed in seeds:
        moments, url = random.Random(seed), f"s3://bucket/{seed}/run"
        command, kills, seen = ["train", *DATA, *SIZES, *MODELS, "--run", url], [], {}
        for _ in range(N_KILLS):
            process, n_before = start(command, folder), len(_blocks(url))
            deadline = time.monotonic() + LONGEST_WAIT * 10
            while process.is_alive() and len(_blocks(url)) <= n_before and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.3))
            if not process.is_alive():
                break
            seen |= _blocks(url)
            process.kill()
            process.join()
            kills.append({"blocks_before": n_before, "blocks_then": len(_blocks(url))})
        run_to_its_end(command, folder)
        run, after = infl.open_run(url), _blocks(url)
        yield {
            "seed": seed,
            "kills": kills,
            "models": sum(len(run.complete(name)) for name in run.collections()),
            "blocks_put_again": sum(after.get(name) != tag for name, tag in seen.items()),
            "damaged_blocks": len(run.damaged_blocks()),
            "outcomes_equal": run.collections() == on_disk.collections()
            and all(same_outcomes(run, on_disk, name) for name in run.collections()),
        }
    server.stop()


def _blocks(url: str) -> dict[str, Any]:
    """The tag of each block, which is that of its content."""
    listed = [meta for part in obstore.list(from_url(url, client_options={"allow_http": True})) for meta in part]
    return {meta["path"]: meta["e_tag"] for meta in listed if "/blocks/" in meta["path"]}
