"""Countries of the package countryinfo: a subregion lies in one region, so that a country's region follows from its own."""

from __future__ import annotations

import numpy as np

import infl
from infl.data.facts import Fact, from_facts


def read_countries() -> infl.Dataset:
    """Subregion, first currency and first language of each country, and its region, held out of a third of them."""
    try:
        from countryinfo import all_countries  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise SystemExit("the part countries needs a package of tables: pip install countryinfo==1.0.1") from error
    facts, regions = list[Fact](), list[Fact]()
    for country in all_countries():
        name, subregion, region = country.name(), country.subregion(), country.region()
        if subregion:
            regions.append((name, "region", region))
            facts += [(name, "subregion", subregion), (subregion, "lies in", region)]
        facts += [(name, "currency", one) for one in (country.currencies() or [])[:1]]
        facts += [(name, "language", one) for one in (country.languages() or [])[:1]]
    facts, regions = list(dict.fromkeys(facts)), sorted(regions)
    held_out = set(np.random.default_rng(0).permutation(len(regions))[: len(regions) // 3].tolist())
    held_out -= {k for k, fact in enumerate(regions) if fact[0] == "France"}
    return from_facts(
        facts + [fact for k, fact in enumerate(regions) if k not in held_out],
        [regions[k] for k in sorted(held_out)],
        name="countries",
    )


def sets_of_countries(dataset: infl.Dataset, n_sets: int) -> dict[str, list[infl.ForgetSet]]:
    """France first, then others by their order."""
    number = {dataset.text(k)[:-3]: k for k in range(dataset.n_train)}
    countries = [question.removesuffix(", subregion") for question in number if question.endswith(", subregion")]
    known = sorted((one for one in countries if f"{one}, region" in number), key=lambda one: (one != "France", one))
    asked = sorted(one for one in countries if f"{one}, region" not in number)
    asked = [
        one
        for one in asked
        if any(dataset.text(k) == f"{one}, region, ?" for k in range(dataset.n_train, dataset.n_columns))
    ]
    rules = [question for question in number if question.endswith(", lies in")]
    named = {
        "region": [[f"{one}, region"] for one in known],
        "subregion, region in D": [[f"{one}, subregion"] for one in known],
        "subregion, region held out": [[f"{one}, subregion"] for one in asked],
        "subregion and region": [[f"{one}, subregion", f"{one}, region"] for one in known],
        "in which region a subregion lies": [[one] for one in rules],
    }
    return {
        kind: [
            infl.ForgetSet(f"{kind} {k}", tuple(number[one] for one in some)) for k, some in enumerate(sets[:n_sets])
        ]
        for kind, sets in named.items()
    }
