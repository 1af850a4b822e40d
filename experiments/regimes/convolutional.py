"""Are regimes of a convolutional network predicted, and by which covariates?

    python experiments/regimes/convolutional.py --work FOLDER   # an hour on one core; resumable

A small CNN on Fashion-MNIST at half its resolution, 2,000 images with 3% of the labels flipped and the sets that worlds.py
plants; a sample of the sets of all its generators, each retrained without. Results go into results.json, under
`convolutional`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import FASHION
from record import argument_parser, work_folder
from worlds import World, make_dataset, stored_sets

import infl
from infl.records import ForgetSet
from infl.store import Run

CNN = {"network": "cnn", "widths": (8, 16), "hidden": (32,), "batch_size": 50, "epochs": 20, "schedule": "cosine"}
REPORTED = World("fashion-cnn", FASHION, 2000, 1000, CNN, flipped=0.03, share=0.3, seeds=(16, 16), half=True)
N_MODELS, N_REFERENCES, N_SETS, N_WEIGHTS = 512, 64, 56, 16


def main() -> None:
    """Train what is missing."""
    parser = argument_parser(__doc__, __file__, small="one little world")
    options = parser.parse_args()
    with work_folder(options) as work:
        train_world(REPORTED, work / REPORTED.name)


def train_world(world: World, folder: Path) -> tuple[Run, list[ForgetSet]]:
    """The run of models of subsets and of D, a sample of its sets, and models without each of these."""
    dataset, planted = make_dataset(world)
    infl.train(dataset, run=folder, n_models=1, n_references=0, algorithm=infl.Algorithm(**world.algorithm))
    infl.keep_weights(folder, n_models=N_WEIGHTS)
    run = infl.train(run=folder, n_models=N_MODELS, n_references=N_REFERENCES)
    sets = stored_sets(world, dataset, planted, run)
    sets = [sets[i] for i in np.random.RandomState(0).permutation(len(sets))[:N_SETS]]
    for _ in infl.verify_effects(run, sets, n_models=world.seeds[1], stop=None):
        pass  # outcomes stay in the folder
    return run, sets


if __name__ == "__main__":
    main()
