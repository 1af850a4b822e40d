"""Is predicted harm zero where there is none, and do its errors hold?

    python experiments/regimes/harm.py --work FOLDER   # after verification.py; ten minutes on one core

In the four worlds of verification.py every retrained set is predicted from 256 models of subsets, and compared with what all
seeds say, by margins: all sets, those whose measured harm is zero within its error, and by size of set and of predicted harm.
The control fits models of D with other seeds in place of models of subsets: whatever they are said to leave out, nothing
depends on it. Results go into results.json, under `controls`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from ablation import N_REFERENCES, Fit
from record import add_worlds, argument_parser, cached, work_folder
from scoring import COLUMNS, score
from verification import CHOSEN_ON, REPORTED, SIZES, measured

import infl
from infl.records import Array, Effects, Outcomes, Verdict
from infl.store import Run, leave_out_name
from infl.untraining.distance import take
from infl.untraining.regimes import judge

HARMS = {"below 0.1": (-1, 0.1), "0.1 to 0.3": (0.1, 0.3), "0.3 and more": (0.3, 1e9)}


def main() -> None:
    """Predict, compare, and write the part."""
    parser = argument_parser(__doc__, __file__, small="not here")
    options = parser.parse_args()
    found = {}
    with work_folder(options) as work:
        for world, *_ in [*CHOSEN_ON, *REPORTED]:
            path = work / world.name / "harm.json"
            found[world.name] = cached(path, lambda given=path.parent: measure_world(infl.open_run(given)))
            found[world.name]["development"] = world.development
            print(world.name, {key: one for key, one in found[world.name].items() if key != "rows"}, flush=True)
    add_worlds(options.out, "controls", found)


def measure_world(run: Run) -> dict[str, Any]:
    """Predicted and measured harm of the sets that as many models left out as there are of D, and the control."""
    sets = infl.forget_sets.read_forget_sets(run.folder / "sets.json", n_train=run.dataset().n_train)
    full = run.outcomes("full").load()
    sets = [one for one in sets if len(run.complete(leave_out_name(one.ids))) >= full.n_models]
    truth: list[Effects] = []
    for one in sets:
        without = run.outcomes(leave_out_name(one.ids), range(full.n_models)).load()
        truth.append(measured(one, full, without, "margins"))
    predicted = predict(Fit(run), sets)
    found = score(predicted, truth, each=True)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in found.pop("rows")]
    harm = np.array(
        [[row[f"{side} harm{se}"] for side in ("predicted", "measured") for se in ("", " se")] for row in rows]
    )
    size = np.array([row["size"] for row in rows])
    groups = {"all": np.ones(len(rows), bool), "none measured": harm[:, 2] < 1.645 * harm[:, 3]}
    groups |= {f"sets of {name}": (size >= low) & (size <= high) for name, (low, high) in SIZES.items()}
    groups |= {f"predicted {name}": (harm[:, 0] >= low) & (harm[:, 0] < high) for name, (low, high) in HARMS.items()}
    return {
        "by net": found["by net"],
        "by harm": found["by harm"],
        "groups": {name: summarize(harm[which]) for name, which in groups.items() if which.any()},
        "control": control(run, full, sets),
        "rows": [[row["set"], row["size"], *harm[k].tolist()] for k, row in enumerate(rows)],
    }


def predict(fit: Fit, sets: Sequence[Any]) -> list[Effects]:
    """By the predictor as it is."""
    return list(fit.predictor(fit.responses, fit.errors)(sets))


def summarize(harm: Array) -> dict[str, float]:
    """Bias, squared errors by claims, coverage of 90% intervals, and how often harm is 1.645 errors above zero."""
    predicted, se, true, noise = harm.T
    error, claimed = predicted - true, np.hypot(se, noise)
    return {
        "sets": len(harm),
        "predicted": predicted.mean(),
        "largest": predicted.max(),
        "bias": error.mean(),
        "squared by claimed": np.mean(error**2) / np.mean(claimed**2),
        "cover": np.mean(np.abs(error) < 1.645 * claimed),
        "above": np.mean(predicted > 1.645 * se),
    }


def control(run: Run, full: Outcomes, sets: Sequence[Any]) -> dict[str, Any]:
    """The same sets, predicted from models of D that are said to be models of subsets."""
    masks = np.concatenate([run.outcomes(name).load().masks for name in ("design", "grouped")])
    rows = np.arange(N_REFERENCES, full.n_models)
    masks = masks[np.random.RandomState(0).permutation(len(masks))[: len(rows)]]
    nothing = replace(take(full, rows), masks=masks)
    of_d, halves = take(full, np.arange(N_REFERENCES)), np.array_split(np.arange(len(rows)), 2)
    given = {"full": of_d} | {
        name: take(nothing, half) for name, half in zip(("design", "grouped"), halves, strict=True)
    }
    with patch.object(Run, "outcomes", lambda self, name, models=None: Loaded(given[name])):
        verdicts: list[Verdict] = [judge(one) for one in predict(Fit(run), sets)]
    harm = np.array([[one.harm.value, one.harm.se, 0.0, 0.0] for one in verdicts])
    size = np.array([len(one) for one in sets])
    return {
        "models": len(rows),
        "regimes": dict(Counter(one.regime for one in verdicts)),
        **{
            name: summarize(harm[which]) for name, (a, b) in SIZES.items() if (which := (size >= a) & (size <= b)).any()
        },
    }


class Loaded:
    """Outcomes that are in memory already."""

    def __init__(self, outcomes: Outcomes):
        self.outcomes = outcomes

    def load(self) -> Outcomes:
        """What was given."""
        return self.outcomes


if __name__ == "__main__":
    main()
