"""Turns results.json into README.md and figure_one.png of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from figure import draw
from instances import WORLDS

HERE = Path(__file__).parent
MODELS = {"A(D)": "A(D)", "A(D\\S)": "A(D\\\\S)", "A(D\\S_full)": "A(D\\\\S_full)"}
PARTS = {
    "circles": "circles",
    "star": "star (memorized)",
    "odd star": "odd star",
    "held-out": "held out, of the concept",
}
WITHOUT = "A(D\\S)"
MEMORIZED = 0.25  # Feldman & Zhang 2020


def main() -> None:
    """Write both."""
    results = json.loads((HERE / "results.json").read_text())
    draw(results, HERE / "figure_one.png")
    (HERE / "README.md").write_text(page(results))
    print(f"wrote {HERE / 'README.md'}")


def page(results: dict[str, Any]) -> str:
    """The page; text.md with every number in it from the results."""
    summary, worlds = results["summary"], results["worlds"]
    text = (HERE / "text.md").read_text()
    tables = {
        **counts(summary),
        **verdicts(worlds),
        "parts": parts_table(summary),
        "concepts": "\n\n".join(f"{name}\n\n{concepts_table(world)}" for name, world in worlds.items()),
        "made": "\n".join(made(name, world) for name, world in worlds.items()),
        "machine": f"{results['processor']}, {results['cores']} cores, jax {results['versions']['jax']}",
    }
    for key, table in tables.items():
        text = text.replace("{" + key + "}", table)
    return text


def counts(summary: dict[str, Any]) -> dict[str, str]:
    """How many of each part most models predict, without S and without the concept."""
    found = {}
    for part in ("circles", "stars", "odd stars"):
        for model, key in (("A(D)", "trained"), (WITHOUT, "untrained"), ("A(D\\S_full)", "unlearned")):
            kept = {name: of[f"kept by most, {model}"][part] for name, of in summary.items()}
            found[f"{part} {key}"] = " and ".join(f"{some} of {every} ({name})" for name, (some, every) in kept.items())
    return found


def verdicts(worlds: dict[str, Any]) -> dict[str, str]:
    """What retraining says of S as a whole."""
    rows = [one | {"world": name} for name, world in worlds.items() for one in world["instances"]]
    no_op = [one for one in rows if one["untraining_S"]["regime"] == "no-op"]
    lost = [one for one in no_op if one["probability"]["star"][WITHOUT][0] <= 0.5]
    spread = [one for one in rows if one["untraining_S"]["regime"] in ("spreading", "indirect")]
    starless = [one for one in rows if one["memorization"][0] < MEMORIZED]
    weakest = min(rows, key=lambda one: one["probability"]["circles"][WITHOUT][0])
    return {
        "concepts in all": str(len(rows)),
        "no-ops": str(len(no_op)),
        "no-ops that lose the star": str(len(lost)),
        "spreading": ", ".join(f"{one['concept']} ({one['world']})" for one in spread) or "none",
        "starless": ", ".join(f"{one['concept']} ({one['world']})" for one in starless) or "none",
        "weakest": f"{weakest['concept']} ({weakest['world']})",
        "weakest circles": plus_minus(weakest["probability"]["circles"][WITHOUT]),
    }


def parts_table(summary: dict[str, Any]) -> str:
    """Means over concepts."""
    lines = ["| data | part | " + " | ".join(MODELS.values()) + " |", "|---|---|---|---|---|"]
    for name, of_world in summary.items():
        for part, title in PARTS.items():
            cells = [plus_minus(of_world[f"{part}, {model}"]) for model in MODELS]
            lines.append(f"| {name} | {title} | " + " | ".join(cells) + " |")
        for part in ("circles", "stars", "odd stars"):
            kept = [of_world[f"kept by most, {model}"][part] for model in MODELS]
            cells = [f"{of}/{all_of}" for of, all_of in kept]
            lines.append(f"| {name} | {part} that most models predict rightly | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def concepts_table(world: dict[str, Any]) -> str:
    """One row a concept, under A(D\\S), and the regime of the whole of S."""
    lines = [
        "| concept | circles | kept | star: pilot score | kept | odd star: oddness, score | kept | self(S) | cross(S) | S is |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in world["instances"]:
        probability, verdict = one["probability"], one["untraining_S"]
        lines.append(
            f"| {one['concept']} | {one['n_circles']} of {one['n_full']} | {plus_minus(probability['circles'][WITHOUT])} | "
            f"{one['memorization'][0]:.2f} | {plus_minus(probability['star'][WITHOUT])} | "
            f"{one['oddness']:.2f}, {one['memorization'][1]:.2f} | {plus_minus(probability['odd star'][WITHOUT])} | "
            f"{plus_minus(verdict['self'])} | {plus_minus(verdict['cross'])} | {verdict['regime']} |"
        )
    return "\n".join(lines)


def made(name: str, world: dict[str, Any]) -> str:
    """What one data set took."""
    algorithm = WORLDS[name].algorithm
    accuracy, hidden = world["accuracy"], algorithm["hidden"][0]
    return (
        f"- {name}: n = {world['n_train']:,}, {world['n_held_out']:,} held out; labels *{world['labels'][0]}* and "
        f"*{world['labels'][1]}*; MLP with {hidden} hidden units, {algorithm['epochs']} epochs; {world['seeds']} seeds of D "
        f"and of D without each set, {world['models']:,} models, {world['model_seconds']:.0f} s beside other work; A(D) "
        f"predicts {accuracy['trained']:.1%} of D and {accuracy['held-out']:.1%} of the held-out examples"
    )


def plus_minus(quantity: list[float]) -> str:
    """Value and standard error."""
    return f"{quantity[0]:.2f} ± {quantity[1]:.2f}"


if __name__ == "__main__":
    main()
