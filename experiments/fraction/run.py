"""What do scores depend on: the fraction r of D that models train on, and how long they train? What is noise, what is chance?

    python experiments/fraction/run.py --work FOLDER     # a quarter of an hour on two cores; models are kept in FOLDER
    python experiments/fraction/run.py --small           # seconds
    python experiments/readme.py fraction            # results.json becomes README.md and fraction.png

Feldman & Zhang 2020 train on r = 0.7 of D. A critic says that this inflates memorization against leaving one example out of all
of D, that the threshold of 0.25 is arbitrary, and that a null of random labels should set it. Question: how do scores at r =
0.3 to 0.9 agree in rank and in level, with each other and with retraining D without one example, at what error for as
many models; how do they grow with training; and what do two nulls look like? 1,000 digits and 600
Fashion-MNIST images.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import alone
import analysis
from analysis import jackknife
from record import argument_parser, work_folder, write_results
from worlds import USUAL, WORLDS, Trained, World, small, train

import infl

SHUFFLES = 20


def main() -> None:
    """Train, compare, and write results.json."""
    parser = argument_parser(__doc__, __file__, small="few models of few digits")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), help="these data sets alone")
    options = parser.parse_args()
    worlds = {"digits": small(WORLDS["digits"])} if options.small else {name: WORLDS[name] for name in options.worlds}
    with work_folder(options) as work:
        measured = {name: measure(world, work / name) for name, world in worlds.items()}
    summary = {name: summarize(of) for name, of in measured.items()}
    write_results(options.out, {"summary": summary, "worlds": measured}, "scikit-learn", "scipy")


def measure(world: World, folder: Path) -> dict[str, Any]:
    """All parts on one data set."""
    start = time.perf_counter()
    trained = train(world, folder)
    return {
        "n_train": world.n_train,
        "models_at_each_fraction": world.models,
        "seeds_alone": world.seeds,
        "usual_epochs": world.algorithm["epochs"],
        "models": trained.models,
        "model_seconds": trained.seconds,
        "by_fraction": by_fraction(trained),
        "agreement": agreement(trained),
        "alone": alone.compare(trained),
        "by_epochs": by_epochs(trained, int(world.algorithm["epochs"])),
        "null": null(trained),
        "quantiles": analysis.quantiles(trained.by_fraction[USUAL]),
        "wall_seconds": time.perf_counter() - start,
    }


def by_fraction(trained: Trained) -> dict[str, Any]:
    """Level, share at 0.25 and more, error at equal models, and influence of the pilot's strongest pairs."""
    pairs, rows = analysis.top_pairs(trained.pilot), {}
    for r, outcomes in trained.by_fraction.items():
        influence, top = jackknife(analysis.pair_influence(pairs), outcomes)
        se = infl.memorization(outcomes).se
        disputed = se >= np.quantile(se, 0.9)
        rows[str(r)] = {
            **level(outcomes),
            "standard error": {
                "root mean square": np.sqrt((se**2).mean()),
                "of the most uncertain tenth": np.sqrt((se[disputed] ** 2).mean()),
                "of even chances": 0.5 / np.sqrt(r * (1 - r) * outcomes.n_models),
            },
            "influence of top pairs": influence,
            "top pairs at 0.15 and more": top,
        }
    return rows


def agreement(trained: Trained) -> dict[str, Any]:
    """Rank correlation of every two fractions: observed, ceiling, and corrected for noise."""
    found = {}
    fractions = list(trained.by_fraction)
    for k, one in enumerate(fractions):
        for other in fractions[k + 1 :]:
            found[f"{one}, {other}"] = ranks(trained.by_fraction[one], trained.by_fraction[other])
    return found


def by_epochs(trained: Trained, usual: int) -> dict[str, Any]:
    """Level, share and rank agreement with the usual length, by epochs."""
    rows = {}
    for epochs, outcomes in trained.by_epochs.items():
        row = rows[str(epochs)] = level(outcomes)
        if epochs != usual:
            agreed = ranks(outcomes, trained.by_fraction[0.8])
            row["rank agreement with the usual length at 0.8, corrected"] = agreed["corrected"]
    return rows


def level(outcomes: infl.Outcomes) -> dict[str, Any]:
    """Mean score, share at 0.25 and more, as it is and less noise, and accuracies."""
    share, less_noise = jackknife(analysis.share_memorized, outcomes)
    return {
        "mean": jackknife(analysis.mean_score, outcomes),
        "share": share,
        "share without noise": less_noise,
        "accuracy": analysis.accuracies(outcomes),
    }


def ranks(one: infl.Outcomes, other: infl.Outcomes) -> dict[str, Any]:
    """Rank correlation of two sets of scores: observed, ceiling, and corrected for noise."""
    names = ("observed", "ceiling", "corrected")
    return dict(zip(names, jackknife(analysis.rank_agreement, one, other), strict=True))


def null(trained: Trained) -> dict[str, Any]:
    """Scores of masks that have nothing to do with the models, and of labels that have nothing to do with the images."""
    return {
        "masks": {str(r): analysis.shuffled_masks(of, SHUFFLES) for r, of in trained.by_fraction.items()},
        "labels": {str(epochs): analysis.shuffled_labels(of) for epochs, of in trained.by_null.items()},
    }


def summarize(of: dict[str, Any]) -> dict[str, Any]:
    """What the page's answer quotes."""
    usual, rows = str(USUAL), of["alone"]["rows"]
    return {
        "share at 0.25 and more": {r: row["share"] for r, row in of["by_fraction"].items()},
        "mean": {r: row["mean"] for r, row in of["by_fraction"].items()},
        "rank agreement, corrected": {fractions: row["corrected"] for fractions, row in of["agreement"].items()},
        "mean score over that of leave-one-out": {r: row["over leave-one-out"] for r, row in rows.items()},
        "95th percentile and maximum of shuffled masks at 0.7": [
            of["null"]["masks"][usual][key] for key in ("95th percentile", "maximum")
        ],
        "median of shuffled labels": {epochs: row["median"] for epochs, row in of["null"]["labels"].items()},
    }


if __name__ == "__main__":
    main()
