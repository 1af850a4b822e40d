"""Are regimes of a convolutional network predicted, and by which covariates?

    python experiments/regimes/convolutional.py --cifar cifar10_small.npz --work FOLDER   # an hour on one core; resumable

Images at half their resolution with 3% of the labels flipped and all that worlds.py plants: a small CNN on 2,000 of
Fashion-MNIST, and one with batch norm and flipped images on 1,000 of CIFAR-10. A sample of the sets of all generators is
retrained without. Results go into results.json, under `convolutional`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import FASHION
from record import argument_parser, work_folder
from worlds import World, make_dataset, stored_sets

import infl
from infl.records import ForgetSet
from infl.store import Run
from infl.training.adapters import adapt_linen
from infl.training.kernels.pooling import convolve_and_pool
from infl.training.networks import Network

N_SETS, N_WEIGHTS = 48, 16


class BatchNormCnn(nn.Module):
    """The built-in `cnn` of 8 and 16 channels and 32 hidden units, with batch norm after the convolutions."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, until_readout: bool = False) -> jax.Array:
        """Logits, or the input of the last layer."""
        for width in (8, 16):
            kernel = self.param(f"kernel{width}", nn.initializers.he_normal(), (3, 3, x.shape[-1], width))
            x = convolve_and_pool(x, kernel)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.relu(nn.Dense(32, kernel_init=nn.initializers.he_normal())(x.reshape(len(x), -1)))
        return x if until_readout else nn.Dense(10)(x)


def batch_norm_cnn() -> Network:
    """The module as a network that tells its features."""
    module, network = BatchNormCnn(), adapt_linen(BatchNormCnn(), {"train": True})

    def features(variables: tuple[dict, dict], x: jax.Array) -> jax.Array:
        return module.apply({"params": variables[0], **variables[1]}, x, until_readout=True)  # pyright: ignore

    return replace(network, name="cnn with batch norm", features=features)


def make_worlds(cifar: Path) -> dict[str, tuple[World, int]]:
    """Worlds and the number of models of subsets."""
    plain = {"network": "cnn", "widths": (8, 16), "hidden": (32,), "epochs": 20, "schedule": "cosine"}
    flip = {
        "network": batch_norm_cnn(),
        "epochs": 20,
        "schedule": "cosine",
        "augmentation": infl.Augmentation(flip=True),
    }
    planted = {"flipped": 0.03, "share": 0.2, "half": True}
    development = World(
        "cifar-development", str(cifar), 500, 500, flip, data_seed=1, seeds=(10, 10), development=True, **planted
    )
    worlds = [
        (development, 256),
        (World("fashion-cnn", FASHION, 2000, 1000, plain, seeds=(10, 10), **planted), 512),
        (World("cifar-batch-norm", str(cifar), 1000, 1000, flip, seeds=(8, 8), **planted), 320),
    ]
    return {world.name: (world, n_models) for world, n_models in worlds}


def main() -> None:
    """Train what is missing."""
    parser = argument_parser(__doc__, __file__, small="one little world")
    parser.add_argument("--cifar", type=Path, help="an .npz with images of CIFAR-10")
    parser.add_argument("--worlds", nargs="*", help="train these and write no results yet")
    options = parser.parse_args()
    worlds = make_worlds(options.cifar)
    with work_folder(options) as work:
        for name in options.worlds or worlds:
            train_world(*worlds[name], work / name)


def train_world(world: World, n_models: int, folder: Path) -> tuple[Run, list[ForgetSet]]:
    """The run of models of subsets and of D, a sample of its sets, and models without each of these."""
    dataset, planted = make_dataset(world)
    algorithm = infl.Algorithm(**world.algorithm)
    infl.train(dataset, run=folder, n_models=1, n_references=0, algorithm=algorithm)
    infl.keep_weights(folder, n_models=N_WEIGHTS, algorithm=algorithm)
    run = infl.train(run=folder, n_models=n_models, n_references=64, algorithm=algorithm)
    sets = stored_sets(world, dataset, planted, run)
    sets = [sets[i] for i in np.random.RandomState(0).permutation(len(sets))[:N_SETS]]
    for _ in infl.verify_effects(run, sets, n_models=world.seeds[1], stop=None, algorithm=algorithm):
        pass  # outcomes stay in the folder
    return run, sets


if __name__ == "__main__":
    main()
