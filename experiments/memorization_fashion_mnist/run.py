"""How much of Fashion-MNIST does a network memorize, and what are the memorized examples worth? Feldman & Zhang 2020, again.

    python experiments/memorization_fashion_mnist/run.py --work FOLDER    # 11 minutes on two shared cores
    python experiments/memorization_fashion_mnist/run.py --small          # digits, some seconds

4,000 Fashion-MNIST images, MLP, models of balanced subsets of 70%: memorization and influence, the share that is memorized
(`shares.py`), and the accuracy that retraining without the memorized examples loses (`utility.py`). `figure.py` draws the
galleries, from FOLDER; `experiments/readme.py` writes README.md from results.json. A killed run is resumable.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import shares
import utility
from fashion import FASHION
from record import argument_parser, cached, training_seconds, work_folder, write_results

import infl

ALGORITHM = infl.Algorithm(hidden=(64,), batch_size=50, epochs=20, learning_rate=0.05, schedule="cosine")
N_MODELS, N_SEEDS = 1500, 12
SMALL_MODELS, SMALL_SEEDS = 40, 3


def main() -> None:
    """Train what is missing and write results.json; figures too, of the full size."""
    parser = argument_parser(__doc__, __file__, small="few models of few digits")
    parser.add_argument("--models", type=int, help="models of subsets")
    parser.add_argument("--train-only", action="store_true", help="train the models of subsets, and stop")
    options = parser.parse_args()
    n_models = options.models or (SMALL_MODELS if options.small else N_MODELS)
    with work_folder(options) as work:
        run = train(work, n_models, small=options.small)
        if options.train_only:
            return
        found = measure(run, work, small=options.small)
        if not options.small:
            from figure import draw_galleries

            draw_galleries(run, Path(__file__).parent)
    summary = {**found["memorized"], **found["pairs"], "utility": found["utility"]["table"]}
    write_results(options.out, {"summary": summary, **found}, "scikit-learn")


def train(work: Path, n_models: int, *, small: bool) -> infl.Run:
    """The run of subset models, trained as far as it is not."""
    dataset = (
        infl.load("digits", n_train=200, n_held_out=200) if small else infl.load(FASHION, n_train=4000, n_held_out=4000)
    )
    return infl.train(
        dataset,
        run=work / "run",
        n_models=n_models,
        n_references=0,
        design=infl.Design("balanced", 0.7),
        algorithm=infl.Algorithm(hidden=(16,), epochs=10) if small else ALGORITHM,
        quiet=small,
    )


def measure(run: infl.Run, work: Path, *, small: bool) -> dict[str, Any]:
    """Everything that is reported; what was measured of as many models before is read from the folder."""
    outcomes, dataset = run.outcomes("design").load(), run.dataset()
    retrained = utility.measure(
        dataset,
        infl.Algorithm.from_dict(run.manifest["algorithm"]),
        infl.memorization(outcomes).value,
        folder=work / "utility",
        n_seeds=SMALL_SEEDS if small else N_SEEDS,
    )

    n = outcomes.n_models
    return {
        "memorized": cached(work / f"memorized-{n}.json", lambda: shares.memorized_share(outcomes)),
        "pairs": cached(work / f"pairs-{n}.json", lambda: shares.strong_pairs(outcomes, dataset)),
        "utility": retrained,
        "seconds": {"subset_models": training_seconds(run, ["design"]), "retraining": retrained["seconds"]},
    }


if __name__ == "__main__":
    main()
