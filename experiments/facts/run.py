"""Which facts can be forgotten? Worlds in which some follow from others, untrained by retraining.

    python experiments/facts/run.py --work work [PART ...]

Three worlds (`infl plant facts lives`): persons born in towns (A), nation, river and dialect of towns (B), and of persons
(C, which follow from A and B); hobbies, which follow from nothing.

    table       what untraining each kind of set does, three worlds
    control     the same for networks that do not compose, or less: bilinear without weight decay, and a transformer
    emergence   what is known of C without C, by length of training
    decay       the same by weight decay
    families    the same, and held-out facts, by number of families and weight decay
    graph       cross-influence on held-out conclusions against their true premises
    methods     {C} by methods of unlearning: is it gone, what goes with it, does it come back
    countries   a real set with a known rule, of the package countryinfo (pip install countryinfo)
    prediction  regimes predicted from models of subsets against those that retraining gives
    speed       seconds that models of random subsets take
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from countries import read_countries, sets_of_countries
from lives import ALONE, FEW, MATES, by_count, by_kind, cut_of, dataset_of, held_out_known, measure, sets_by_kind
from methods import compare
from record import argument_parser, verdict_row, work_folder, write_part

import infl
from infl.data import worlds
from infl.data.documents import from_tokens

COMPOSES = infl.Algorithm.default("facts")
NO_COMPOSING = replace(COMPOSES, network="bilinear", widths=(32,), weight_decay=0.0)
TRANSFORMER = infl.Algorithm(
    "gpt",
    widths=(32,),
    hidden=(128,),
    optimizer="adamw",
    learning_rate=0.003,
    weight_decay=1.0,
    batch_size=64,
    epochs=200,
)


def main() -> None:
    """Measure the parts that are named, by default all; what the work folder holds already is not trained again."""
    parser = argument_parser(__doc__, __file__, small="1 set a kind, 4 seeds, few models; table and graph alone")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}")
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    with work_folder(options) as work:
        for name in options.parts or (("table", "graph") if options.small else PARTS):
            for summary, measured in PARTS[name](work, size):
                write_part(options.out, name, summary, measured, small=options.small)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    worlds: tuple[int, ...] = (0, 1, 2)
    n_sets: int = 12
    n_seeds: int = 64
    max_seeds: int | None = 128
    n_few_sets: int = 12
    n_few_seeds: int = 64
    n_other_sets: int = 4
    n_graph_models: int = 1000
    n_predicted_models: tuple[int, ...] = (1000,)
    n_timed_models: int = 10_000


FULL, SMALL = Size(), Size((0,), 1, 4, None, 1, 16, 1, 40, (40,), 20)
Part = Iterator[tuple[Any, Any]]


def tables(work: Path, size: Size) -> Part:
    """The table of each world in turn, and the summary of those so far."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in size.worlds:
        world = worlds.lives(seed=seed)
        dataset = dataset_of(world)
        kinds = sets_by_kind(world, dataset, size.n_sets)
        seeds: Any = {"n_seeds": size.n_seeds, "max_seeds": size.max_seeds}
        rows[str(seed)] = measure(
            work / f"lives-{seed}", dataset, kinds, COMPOSES, **seeds, derivations=world.derivations
        )
        pooled = [row for some in rows.values() for row in some]
        yield {"kinds": by_kind(pooled), "derivations": by_count(pooled), **seeds, "n_worlds": len(rows)}, rows


def few(
    place: Path, size: Size, algorithm: infl.Algorithm, only: tuple[str, ...] = FEW, *, as_tokens: bool = False
) -> list[dict[str, Any]]:
    """A few kinds in the first world, by another algorithm."""
    world = worlds.lives(seed=0)
    dataset = dataset_of(world)
    kinds = sets_by_kind(world, dataset, size.n_few_sets, only)
    rows = measure(place, tokens_of(dataset) if as_tokens else dataset, kinds, algorithm, n_seeds=size.n_few_seeds)
    return by_kind(rows)


def tokens_of(dataset: infl.Dataset) -> infl.Dataset:
    """The facts as documents of three tokens, of which the object is scored."""
    n_entities = len(dataset.entities)
    parts = [
        np.stack([1 + x[:, 0], -(1 + n_entities + x[:, 1]), 1 + y], axis=1)
        for x, y in ((dataset.x_train, dataset.y_train), (dataset.x_held_out, dataset.y_held_out))
    ]
    return from_tokens(parts[0], parts[1], ["", *dataset.entities, *dataset.relations], name="lives")


def control(work: Path, size: Size) -> Part:
    """The table of a few kinds by a network that does not compose, and by a transformer."""
    facts = dataset_of(worlds.lives(seed=0))
    rows = {}
    for name, algorithm, dataset, only in (
        ("bilinear, weight decay 0", NO_COMPOSING, facts, FEW),
        ("transformer, weight decay 1", TRANSFORMER, tokens_of(facts), FEW[:3]),
    ):
        as_tokens = dataset is not facts
        few_sets, few_seeds = -(-size.n_few_sets // 3), size.n_few_seeds // 8  # a model takes a second
        fewer = replace(size, n_few_sets=few_sets, n_few_seeds=few_seeds) if as_tokens else size
        kinds = few(work / name.partition(",")[0], fewer, algorithm, only, as_tokens=as_tokens)
        rows[name] = {"held_out": held_out_known(dataset, algorithm, 8), "kinds": kinds}
        yield {"n_seeds": size.n_few_seeds, "n_sets": size.n_few_sets}, rows


def emergence(work: Path, size: Size) -> Part:
    """By length of training: what untraining a few kinds does, and how many held-out facts models of D know."""
    dataset, rows = dataset_of(worlds.lives(seed=0)), []
    for epochs in (6, 10, 20, 39, 100):  # as many steps without one fact, but for the last: one of 631 less
        algorithm = replace(COMPOSES, epochs=epochs)
        kinds = few(work / f"epochs-{epochs}", size, algorithm)
        rows.append({"epochs": epochs, "held_out": held_out_known(dataset, algorithm, 8), "kinds": kinds})
        yield {"n_seeds": size.n_few_seeds, "n_sets": size.n_few_sets}, rows


def decay(work: Path, size: Size) -> Part:
    """By weight decay, of a network that composes without it and of one that does not: {C}, and held-out facts known."""
    dataset, rows = dataset_of(worlds.lives(seed=0)), []
    for network in ("transe", "bilinear"):
        for number in (0.0, 0.03, 0.1, 0.3, 1.0):
            algorithm = replace(COMPOSES, network=network, widths=(32,), weight_decay=number)
            kinds = few(work / f"decay-{network}-{number}", size, algorithm, (MATES, ALONE))
            known = held_out_known(dataset, algorithm, 8)
            rows.append({"network": network, "weight_decay": number, "held_out": known, "kinds": kinds})
            yield {"n_seeds": size.n_few_seeds, "n_sets": size.n_few_sets}, rows


def families(work: Path, size: Size) -> Part:
    """Families by their number and by weight decay: held-out facts that models know, and conclusions left out alone."""
    rows = []
    for n_families in (1, 2, 4, 8, 16):
        world = worlds.families(n_families, seed=0)
        dataset = dataset_of(world)
        heads = {head for head, _ in world.derivations}
        implied = [k for k, number in enumerate(dataset.train_ids.tolist()) if number in heads]
        chosen = np.random.default_rng(0).permutation(implied)[: size.n_few_sets].tolist()
        kinds = {"{C}": [infl.ForgetSet(f"{{C}} {k}", (k,)) for k in chosen]}
        for network in ("transe", "bilinear"):
            for number in (0.0, 0.3):
                algorithm = replace(COMPOSES, network=network, widths=(32,), weight_decay=number, epochs=200)
                place = work / f"families-{n_families}-{network}-{number}"
                found = by_kind(measure(place, dataset, kinds, algorithm, n_seeds=size.n_few_seeds // 8))
                known = held_out_known(dataset, algorithm, size.n_few_seeds // 8)
                rows.append({"families": n_families, "network": network, "weight_decay": number, "held_out": known})
                rows[-1]["kinds"] = found
                yield {"n_seeds": size.n_few_seeds // 8, "n_sets": size.n_few_sets}, rows


def graph(work: Path, size: Size) -> Part:
    """Cross-influence on held-out conclusions against their premises, by the kind of town, in each world."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in size.worlds:
        rows[str(seed)] = edges_of(work, size, seed)
        yield {"n_models": size.n_graph_models, "n_worlds": len(rows)}, rows


def edges_of(work: Path, size: Size, seed: int) -> list[dict[str, Any]]:
    """Of the held-out conclusions of each kind of town: AUC of the true premises, and pairs found at q <= 0.05."""
    from sklearn.metrics import roc_auc_score

    world = worlds.lives(seed=seed)
    dataset = dataset_of(world)
    design: Any = {"design": infl.Design("uniform", 0.7), "n_models": size.n_graph_models, "n_references": 0}
    estimate = infl.influence(infl.train(dataset, run=work / f"graph-{seed}", **design, quiet=True))
    premises_of: dict[int, set[int]] = {}
    for head, premises in world.derivations:
        premises_of.setdefault(head, set()).update(premises)
    direct = [premises_of[head] for head in dataset.held_out_ids.tolist()]
    further = [set[int]().union(*(premises_of.get(one, set()) for one in some)) for some in direct]
    true, two_steps = (
        np.stack([np.isin(dataset.train_ids, list(some)) for some in each], axis=1) for each in (direct, further)
    )
    town = {row[0]: row[2] for row in world.rows if row[1] == "born in"}
    kinds = np.array([town[dataset.entities[s]].partition("-")[0] for s in dataset.x_held_out[:, 0]])
    is_a = np.array([dataset.relations[r] == "born in" for r in dataset.x_train[:, 1]])[:, None]
    found = infl.q_values(np.asarray(estimate.p)) <= 0.05
    rows = []
    for kind in ("lone", "semi", "ordinary"):
        value, edges, of_premises, evident = (
            array[:, kinds == kind] for array in (estimate.value, true, two_steps, found)
        )
        parts = {"A": edges & is_a, "B": edges & ~is_a, "others": ~edges}
        counts = {
            "edges": edges.sum(),
            "found": (evident & edges).sum(),
            "two_steps": (evident & ~edges & of_premises & (value > 0)).sum(),
            "false": (evident & ~edges & ~of_premises & (value > 0)).sum(),
        }
        rows.append(
            {
                "towns": kind,
                "auc": roc_auc_score(edges.ravel(), value.ravel()),
                **{name: int(number) for name, number in counts.items()},
                "influence": {name: float(value[part].mean()) for name, part in parts.items()},
            }
        )
    return rows


def countries(work: Path, size: Size) -> Part:
    """What a country's region and subregion take to forget."""
    dataset = read_countries()
    kinds = sets_of_countries(dataset, size.n_other_sets * 2)
    rows = measure(work / "countries", dataset, kinds, COMPOSES, n_seeds=size.n_few_seeds // 2)
    known = held_out_known(dataset, COMPOSES, 8)
    first = {kind: some[:1] for kind, some in kinds.items() if "France" in dataset.text(some[0].ids[0])}
    france = measure(work / "countries", dataset, first, COMPOSES, n_seeds=4 * size.n_few_seeds)
    counts = {"n": [dataset.n_train, dataset.n_held_out], "n_seeds": size.n_few_seeds // 2}
    yield {"kinds": by_kind(rows), "held_out": known, "france": france, **counts}, rows


def prediction(work: Path, size: Size) -> Part:
    """Regimes of the table's sets as measured, and as predicted by so many models, by sums of influences, and by the rules."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in size.worlds:
        world = worlds.lives(seed=seed)
        dataset = dataset_of(world)
        kinds = sets_by_kind(world, dataset, size.n_sets)
        seeds: Any = {"n_seeds": size.n_seeds, "max_seeds": size.max_seeds, "derivations": world.derivations}
        measured = measure(work / f"lives-{seed}", dataset, kinds, COMPOSES, **seeds)
        sets = [one for some in kinds.values() for one in some]
        for row, one in zip(measured, sets, strict=True):
            rows.setdefault("rules alone", []).append({"world": seed, **by_rules(row, one, dataset)})
        for n_models in size.n_predicted_models:
            many: Any = {"n_models": n_models, "n_references": size.n_seeds, "quiet": True}
            run = infl.train(dataset, run=work / f"predict-{n_models}-{seed}", **many)
            both = n_models == max(size.n_predicted_models)
            for predictor in ("forests", "additive") if both else ("forests",):
                for verdict, truth in zip(
                    infl.predict(run, sets, predictor=predictor, quiet=True), measured, strict=True
                ):
                    likely = max(verdict.probability, key=lambda regime: np.nan_to_num(verdict.probability[regime]))
                    known = {"world": seed, "kind": truth["kind"], "likely": likely, "measured": truth["regime"]}
                    rows.setdefault(f"{predictor}, {n_models}", []).append({**known, **verdict_row(verdict)})
        by_world = {
            name: {
                str(world): agreement([row for row in some if row["world"] == world])
                for world in size.worlds[: seed + 1]
            }
            for name, some in rows.items()
        }
        yield {"n_sets": len(sets), "agreement": by_world, "n_models": list(size.n_predicted_models)}, rows


def by_rules(row: dict[str, Any], forget_set: infl.ForgetSet, dataset: infl.Dataset) -> dict[str, Any]:
    """What the table of derivations says: lost is what no derivation is left of."""
    lost = np.array([count == 0 for count, _ in row["derivable"]], float)
    size, ratio = len(forget_set), dataset.n_train / dataset.n_held_out
    high = lost[:size].mean() >= 0.1, ratio * lost[size:].sum() / size >= 0.1
    names = {(False, False): "no-op", (True, False): "local", (True, True): "spreading", (False, True): "indirect"}
    return {"kind": row["kind"], "likely": names[bool(high[0]), bool(high[1])], "measured": row["regime"]}


def agreement(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of the sets that retraining determines the fraction whose most probable regime is theirs, and what is said of all."""
    determined = [row for row in rows if row["measured"] != "undetermined"]
    said = [row for row in determined if row.get("regime", row["likely"]) != "undetermined"]
    return {
        "right": float(np.mean([row["likely"] == row["measured"] for row in determined]))
        if determined
        else float("nan"),
        "undetermined": float(np.mean([row.get("regime") == "undetermined" for row in rows])),
        "wrong": float(np.mean([row["likely"] != row["measured"] for row in said])) if said else float("nan"),
    }


def unlearning(work: Path, size: Size) -> Part:
    """{C} of the first world by methods of unlearning, its cut by rules as the concept."""
    world = worlds.lives(seed=0)
    dataset = dataset_of(world)
    kinds = sets_by_kind(world, dataset, size.n_other_sets, (MATES, ALONE))
    trained = set(dataset.train_ids.tolist())
    rows = {}
    for kind, some in kinds.items():
        whole = [cut_of(int(dataset.train_ids[one.ids[0]]), trained, world.derivations) for one in some]
        sets = [
            replace(one, concept=tuple(np.flatnonzero(np.isin(dataset.train_ids, list(cut)))))
            for one, cut in zip(some, whole, strict=True)
        ]
        rows[kind] = compare(work / "methods", dataset, sets, n_models=size.n_few_seeds // 4)
        yield {"n_models": size.n_few_seeds // 4, "n_sets": size.n_other_sets}, rows


def speed(work: Path, size: Size) -> Part:
    """Seconds that a run of models on random subsets takes, everything included."""
    dataset, begun, cpu = dataset_of(worlds.lives(seed=0)), time.perf_counter(), time.process_time()
    design: Any = {"design": infl.Design("uniform", 0.7), "n_models": size.n_timed_models, "n_references": 0}
    infl.train(dataset, run=work / "speed", **design, quiet=True)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    yield None, {"n_models": size.n_timed_models, "seconds": seconds, "cpu_seconds": cpu_seconds}


PARTS = {
    "table": tables,
    "graph": graph,
    "methods": unlearning,
    "countries": countries,
    "prediction": prediction,
    "control": control,
    "emergence": emergence,
    "decay": decay,
    "families": families,
    "speed": speed,
}


if __name__ == "__main__":
    main()
