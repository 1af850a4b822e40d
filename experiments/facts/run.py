"""Which facts can be forgotten? Worlds in which some follow from others, untrained by retraining.

    python experiments/facts/run.py --work work

Three worlds (`infl plant facts lives`): persons born in towns (A), nation, river and dialect of towns (B), and of persons
(C, which follow from A and B); hobbies, which follow from nothing. Four sets of each kind and world, 64 retrainings each, by
the default network, which composes, and in the first world, 16 each, by the control, which does not.

    table       what untraining each kind does
    control     the same for a bilinear network without weight decay
    emergence   what is known of C without C, by length of training; held-out facts of families, by number and weight decay
    graph       cross-influence on held-out conclusions against their true premises
    prediction  regimes predicted from 500 models against those that retraining gives
    speed       seconds of 1,000 models
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import argument_parser, mean_and_error, verdict_row, work_folder, write_part

import infl
from infl.data import worlds
from infl.data.facts import from_facts
from infl.training.ensemble import Ensemble, model_keys
from infl.untraining.cuts import minimal_cut

EPOCHS = (5, 10, 20, 40, 100)
COMPOSES = infl.Algorithm.default("facts")
FEW = (
    "{C}, town-mates' C in D",
    "{C}, only A and B imply it",
    "{A}, nothing implies it",
    "cut of C by rules",
    "random, put once",
)
CONTROL = replace(COMPOSES, network="bilinear", weight_decay=0.0)


def main() -> None:
    """Measure the parts that are named; what the work folder holds already is not trained again."""
    parser = argument_parser(__doc__, __file__, small="1 set a kind, 4 seeds, few models")
    parser.add_argument("--worlds", type=int, default=3, help="worlds of the table")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; by default {', '.join(USUAL)}")
    options = parser.parse_args()
    size = SMALL if options.small else replace(FULL, worlds=tuple(range(options.worlds)))
    with work_folder(options) as work:
        for name in options.parts or USUAL:
            for summary, measured in PARTS[name](work, size):
                write_part(options.out, name, summary, measured, small=options.small)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    n_seeds: int = 64
    n_sets: int = 4
    worlds: tuple[int, ...] = (0, 1, 2)
    n_control_seeds: int = 16
    n_graph_models: int = 250
    n_predicted_models: int = 500
    n_timed_models: int = 1000


FULL, SMALL = Size(), Size(4, 1, (0,), 4, 40, 40, 20)
Part = Iterator[tuple[Any, Any]]


def tables(work: Path, size: Size) -> Part:
    """The table of each world in turn, and the summary of those so far."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in size.worlds:
        rows[str(seed)] = table(work, seed, COMPOSES, n_seeds=size.n_seeds, n_sets=size.n_sets)
        pooled = [row for some in rows.values() for row in some]
        yield {"kinds": by_kind(pooled), "n_seeds": size.n_seeds, "n_worlds": len(rows)}, rows


def control(work: Path, size: Size) -> Part:
    """The table of a few kinds by the network that does not compose, in the first world."""
    rows = table(work, 0, CONTROL, only=FEW, n_seeds=size.n_control_seeds, n_sets=size.n_sets)
    yield {"kinds": by_kind(rows), "n_seeds": size.n_control_seeds}, rows


def dataset_of(world: worlds.World) -> infl.Dataset:
    """The data set of a world."""
    parts = [[row for row in world.rows if row[3] == part] for part in ("train", "test")]
    ids: Any = dict(zip(("train_ids", "held_out_ids"), ([row[4] for row in part] for part in parts), strict=True))
    return from_facts(*([row[:3] for row in part] for part in parts), name="lives", **ids)


def sets_by_kind(world: worlds.World, dataset: infl.Dataset, n_sets: int) -> dict[str, list[infl.ForgetSet]]:
    """Of each kind the first sets by the world's order, one a person or town where there are as many."""
    facts = {(row[0], row[1]): row for row in world.rows}
    trained = set(dataset.train_ids.tolist())
    town = {s: row[2] for (s, r), row in facts.items() if r == "born in"}
    persons = {
        kind: [p for p, t in town.items() if t.startswith(start) and (facts[p, "nation"][3] == "train") is known]
        for kind, start, known in (
            ("T", "ordinary", True),
            ("TL", "semi", True),
            ("P", "ordinary", False),
            ("L", "lone", False),
        )
    }
    lone = list(dict.fromkeys(town[p] for p in persons["L"]))
    names = list(worlds.PROPERTIES)

    def turns(some: list[str]) -> list[tuple[str, str]]:
        """Each with one property after another, all with the first before any has the second."""
        return [(one, names[(k + turn) % 3]) for turn in range(3) for k, one in enumerate(some)]

    def statement(subject: str, relation: str) -> int:
        return facts[subject, relation][4]

    def cut(person: str, name: str) -> set[int]:
        conclusion = statement(person, name)
        return {conclusion} | minimal_cut(conclusion, trained, world.derivations)

    hobbies: dict[int, set[int]] = {}
    for k, number in enumerate(dataset.train_ids.tolist()):
        if dataset.relations[dataset.x_train[k, 1]] in worlds.HOBBIES:
            hobbies.setdefault(number, set()).add(k)
    once = [{number} for number, ways in hobbies.items() if len(ways) == 1]
    thrice = [(number, ways) for number, ways in hobbies.items() if len(ways) == 3]
    born = "born in"
    statements: dict[str, list[set[int]]] = {
        "{C}, town-mates' C in D": [{statement(*one)} for one in turns(persons["T"][::3])],
        "{C}, only A and B imply it": [{statement(*one)} for one in turns(persons["TL"])],
        "{A}, nothing implies it": [{statement(p, born)} for p in persons["P"][::2]],
        "{A}, its three C in D": [{statement(p, born)} for p in persons["T"][::3]],
        "{B}, sole": [{statement(t, worlds.PROPERTIES[name])} for t, name in turns(lone)],
        "{C, B}": [{statement(p, n), statement(town[p], worlds.PROPERTIES[n])} for p, n in turns(persons["TL"])],
        "{C, A}": [{statement(p, n), statement(p, born)} for p, n in turns(persons["T"][::3])],
        "cut of C by rules": [cut(*one) for one in turns(persons["T"][::3])],
        "random, put once": once,
    }
    examples = {
        kind: [np.flatnonzero(np.isin(dataset.train_ids, list(one))).tolist() for one in some[:n_sets]]
        for kind, some in statements.items()
    }
    examples["random, one of three ways"] = [[min(ways)] for _, ways in thrice[:n_sets]]
    examples["random, all three ways"] = [sorted(ways) for _, ways in thrice[:n_sets]]
    return {
        kind: [infl.ForgetSet(f"{kind} {k}", tuple(ids)) for k, ids in enumerate(some)]
        for kind, some in examples.items()
    }


def table(
    work: Path,
    seed: int,
    algorithm: infl.Algorithm,
    *,
    only: Collection[str] | None = None,
    n_seeds: int,
    n_sets: int,
) -> list[dict[str, Any]]:
    """Verdicts of all sets by retraining, in the order of the kinds."""
    world = worlds.lives(seed=seed)
    dataset = dataset_of(world)
    place = work / f"lives-{seed}-{algorithm.network}-{algorithm.weight_decay:g}-{algorithm.epochs}"
    run = infl.train(dataset, run=place, algorithm=algorithm, n_models=2, n_references=n_seeds, quiet=True)
    kinds = {kind: some for kind, some in sets_by_kind(world, dataset, n_sets).items() if only is None or kind in only}
    sets = [one for some in kinds.values() for one in some]
    effects = infl.verify_effects(run, sets, n_models=n_seeds, stop=None, algorithm=algorithm, quiet=True)
    rows = []
    for kind, one in zip([kind for kind, some in kinds.items() for _ in some], effects, strict=True):
        lost = one.effect >= 0.5
        lost[list(one.forget_set.ids)] = False
        others = {
            "trained_lost": int(lost[: dataset.n_train].sum()),
            "held_out_lost": int(lost[dataset.n_train :].sum()),
        }
        facts = [f"{dataset.text(k)[:-1]}{dataset.class_names[dataset.y_train[k]]}" for k in one.forget_set.ids]
        rows.append({"kind": kind, "facts": facts, **verdict_row(infl.judge(one)), **others})
    return rows


def by_kind(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind the number of sets of each regime, and means over sets."""
    found = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        some = [row for row in rows if row["kind"] == kind]
        means = {name: mean_and_error([row[name][0] for row in some]) for name in ("self", "cross", "harm")}
        others = {name: float(np.mean([row[name] for row in some])) for name in ("trained_lost", "held_out_lost")}
        found.append(
            {"kind": kind, "n": len(some), "regimes": Counter(row["regime"] for row in some), **means, **others}
        )
    return found


def known(dataset: infl.Dataset, algorithm: infl.Algorithm, n_models: int) -> list[float | None]:
    """Of the held-out facts the fraction that models of D know: mean over models, and its error."""
    ensemble, parts = Ensemble(algorithm, dataset), list[float]()
    for first in range(0, n_models, ensemble.models_per_batch):
        keys = model_keys(0, "full", np.arange(first, min(first + ensemble.models_per_batch, n_models)))
        outcomes = ensemble.train(keys, np.ones((len(keys), dataset.n_train), bool))
        parts += np.asarray(outcomes.correct)[:, dataset.n_train :].mean(axis=1).tolist()
    return mean_and_error(parts)


def emergence(work: Path, size: Size) -> Part:
    """By length of training: what untraining a few kinds does, and how many held-out facts models of D know."""
    dataset, rows = dataset_of(worlds.lives(seed=0)), []
    for epochs in EPOCHS:
        algorithm = replace(COMPOSES, epochs=epochs)
        kinds = by_kind(table(work, 0, algorithm, only=FEW, n_seeds=size.n_control_seeds, n_sets=size.n_sets))
        rows.append({"epochs": epochs, "held_out": known(dataset, algorithm, size.n_control_seeds), "kinds": kinds})
        yield {"n_seeds": size.n_control_seeds}, rows


def families(work: Path, size: Size) -> Part:
    """Held-out facts of families that models know, by their number and by weight decay."""
    rows = []
    for n_families in (1, 2, 4, 8, 16):
        dataset = dataset_of(worlds.families(n_families, seed=0))
        for network in ("transe", "bilinear"):
            for decay in (0.0, 0.3):
                algorithm = replace(COMPOSES, network=network, weight_decay=decay, epochs=200)
                found = known(dataset, algorithm, min(8, size.n_seeds))
                rows.append({"families": n_families, "network": network, "weight_decay": decay, "held_out": found})
        yield None, rows


def graph(work: Path, size: Size) -> Part:
    """Cross-influence on held-out conclusions against their premises, by the kind of town: AUC, and pairs at q <= 0.05."""
    from sklearn.metrics import roc_auc_score

    world = worlds.lives(seed=0)
    dataset = dataset_of(world)
    design: Any = {"design": infl.Design("uniform", 0.7), "n_models": size.n_graph_models, "n_references": 0}
    estimate = infl.influence(infl.train(dataset, run=work / "graph", **design, quiet=True))
    true = np.zeros(estimate.value.shape, bool)
    row_of, column_of = (
        {number: k for k, number in enumerate(ids)} for ids in (dataset.train_ids, dataset.held_out_ids)
    )
    for head, premises in world.derivations:
        if head in column_of:
            true[[row_of[one] for one in premises], column_of[head]] = True
    town = {row[0]: row[2] for row in world.rows if row[1] == "born in"}
    kinds = np.array([town[dataset.entities[s]].partition("-")[0] for s in dataset.x_held_out[:, 0]])
    is_a = np.array([dataset.relations[r] == "born in" for r in dataset.x_train[:, 1]])[:, None]
    found = infl.q_values(np.asarray(estimate.p)) <= 0.05
    rows = []
    for kind in ("lone", "semi", "ordinary"):
        value, edges, evident = (array[:, kinds == kind] for array in (estimate.value, true, found))
        parts = {"A": edges & is_a, "B": edges & ~is_a, "others": ~edges}
        counts = {
            "edges": edges.sum(),
            "found": (evident & edges).sum(),
            "false": (evident & ~edges & (value > 0)).sum(),
        }
        rows.append(
            {
                "towns": kind,
                "auc": roc_auc_score(edges.ravel(), value.ravel()),
                **{name: int(number) for name, number in counts.items()},
                "influence": {name: float(value[part].mean()) for name, part in parts.items()},
            }
        )
    yield {"n_models": size.n_graph_models}, rows


def prediction(work: Path, size: Size) -> Part:
    """Regime of each set of the first world as measured, and as predicted from subsets of the default design and of 95%."""
    measured = table(work, 0, COMPOSES, n_seeds=size.n_seeds, n_sets=size.n_sets)
    world = worlds.lives(seed=0)
    dataset = dataset_of(world)
    sets = [one for some in sets_by_kind(world, dataset, size.n_sets).values() for one in some]
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, design in {"grouped, 70 to 97%": infl.Design(), "uniform, 95%": infl.Design("uniform", 0.95)}.items():
        place = work / f"predict-{design.kind}"
        many: Any = {"n_models": size.n_predicted_models, "n_references": size.n_seeds}
        run = infl.train(dataset, run=place, design=design, **many, quiet=True)
        rows[name] = []
        for verdict, truth in zip(infl.predict(run, sets, quiet=True), measured, strict=True):
            likely = max(verdict.probability, key=lambda regime: np.nan_to_num(verdict.probability[regime]))
            known = {"kind": truth["kind"], "likely": likely, "measured": truth["regime"]}
            rows[name].append({**known, **verdict_row(verdict)})
        right = {kind: [float(row["likely"] == row["measured"]) for row in some] for kind, some in rows.items()}
        yield {"right": {kind: float(np.mean(some)) for kind, some in right.items()}, **many}, rows


def speed(work: Path, size: Size) -> Part:
    """Seconds that models on random subsets of `lives` take, after compilation."""
    dataset, n_models = dataset_of(worlds.lives(seed=0)), size.n_timed_models
    ensemble = Ensemble(COMPOSES, dataset)
    masks = np.random.default_rng(0).random((n_models, dataset.n_train)) < 0.7
    keys, batch = model_keys(0, "design", np.arange(n_models)), ensemble.models_per_batch
    ensemble.train(keys[:batch], masks[:batch])
    begun, cpu = time.perf_counter(), time.process_time()
    for first in range(0, n_models, batch):
        ensemble.train(keys[first : first + batch], masks[first : first + batch])
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    yield None, {"n_models": n_models, "seconds": seconds, "cpu_seconds": cpu_seconds}


PARTS = {
    "table": tables,
    "graph": graph,
    "prediction": prediction,
    "control": control,
    "emergence": emergence,
    "families": families,
    "speed": speed,
}


USUAL = ("table", "graph")


if __name__ == "__main__":
    main()
