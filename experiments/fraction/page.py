"""Turns results.json and text.md into README.md, and draws fraction.png."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from figure import BAND_TITLES, draw

HERE = Path(__file__).parent


def main() -> None:
    """Write both."""
    results = json.loads((HERE / "results.json").read_text())
    draw(results, HERE / "fraction.png")
    worlds = results["worlds"]
    text = (HERE / "text.md").read_text()
    for key, table in {
        **quoted(worlds),
        "level": level_table(worlds),
        "alone": alone_table(worlds),
        "agreement": agreement_table(worlds),
        "epochs": epochs_table(worlds),
        "null": null_table(worlds),
        "made": "\n".join(made(name, world) for name, world in worlds.items()),
        "machine": f"{results['processor']}, {results['cores']} cores, jax {results['versions']['jax']}",
    }.items():
        text = text.replace("{" + key + "}", table)
    (HERE / "README.md").write_text(text)
    print(f"wrote {HERE / 'README.md'}")


def quoted(worlds: dict[str, Any]) -> dict[str, str]:
    """Numbers of the answer, one after another for the data sets."""

    def each(find: Any, show: Any = lambda quantity: plus_minus(quantity)) -> str:
        return ", ".join(f"{show(find(world))} ({name})" for name, world in worlds.items())

    found = {}
    for score in ("0.3", "0.7", "0.9", "line to 1"):
        found[f"ratio at {score}"] = each(lambda w, s=score: w["alone"]["rows"][s]["over leave-one-out"])
    for score in ("0.7", "leave-one-out"):
        for k in range(4):
            found[f"band {k} at {score}"] = each(lambda w, s=score, b=k: w["alone"]["rows"][s]["by band"][b])
        found[f"share at {score}"] = each(
            lambda w, s=score: w["alone"]["rows"][s]["share at 0.25 and more"], lambda quantity: percent(quantity)
        )
    for pair in ("0.7, 0.9", "0.3, 0.9"):
        found[f"ranks of {pair}"] = each(lambda w, p=pair: w["agreement"][p]["corrected"])
        found[f"ceiling of {pair}"] = each(lambda w, p=pair: w["agreement"][p]["ceiling"])
    found["noise"] = each(lambda w: w["null"]["masks"]["0.7"]["largest maximum"], lambda value: f"{value:.2f}")
    found["noise of most"] = each(lambda w: w["null"]["masks"]["0.7"]["95th percentile"], lambda q: plus_minus(q, 3))
    found["labels"] = each(
        lambda w: w["null"]["labels"][str(w["usual_epochs"])]["median"], lambda value: f"{value:.2f}"
    )
    found["labels at 0.25"] = each(
        lambda w: w["null"]["labels"][str(w["usual_epochs"])]["share"], lambda quantity: percent(quantity)
    )
    found["labels fitted"] = each(
        lambda w: w["null"]["labels"][str(w["usual_epochs"])]["accuracy"]["trained"], lambda value: f"{value:.0%}"
    )
    for r in ("0.5", "0.7", "0.9"):
        found[f"error at {r}"] = each(
            lambda w, s=r: w["by_fraction"][s]["standard error"]["root mean square"], lambda value: f"{value:.3f}"
        )
    return found


def level_table(worlds: dict[str, Any]) -> str:
    """By fraction: mean, share, error, influence."""
    lines = [
        "| data | r | mean score | share >= 0.25 | less noise | standard error (rms; even chances) | influence of top pairs |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, world in worlds.items():
        for r, row in world["by_fraction"].items():
            error = row["standard error"]
            lines.append(
                f"| {name} | {r} | {plus_minus(row['mean'], 3)} | {percent(row['share'])} | "
                f"{percent(row['share without noise'])} | {error['root mean square']:.3f}; {error['of even chances']:.3f} | "
                f"{plus_minus(row['influence of top pairs'], 3)} |"
            )
    return "\n".join(lines)


def alone_table(worlds: dict[str, Any]) -> str:
    """Scores against retraining without one."""
    titles = " | ".join(BAND_TITLES)
    lines = [
        f"| data | score | mean over D | over leave-one-out | share >= 0.25 | {titles} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, world in worlds.items():
        for score, row in world["alone"]["rows"].items():
            bands = " | ".join(plus_minus(band) for band in row["by band"])
            title = f"r = {score}" if score[0].isdigit() else score
            lines.append(
                f"| {name} | {title} | {plus_minus(row['mean over D'], 3)} | {plus_minus(row['over leave-one-out'])} | "
                f"{percent(row['share at 0.25 and more'])} | {bands} |"
            )
    return "\n".join(lines)


def agreement_table(worlds: dict[str, Any]) -> str:
    """Rank correlations of every two fractions."""
    lines = ["| data | fractions | Spearman | ceiling of noise | corrected |", "|---|---|---|---|---|"]
    for name, world in worlds.items():
        for fractions, row in world["agreement"].items():
            cells = [plus_minus(row[key]) for key in ("observed", "ceiling", "corrected")]
            lines.append(f"| {name} | {fractions.replace(', ', ' and ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def epochs_table(worlds: dict[str, Any]) -> str:
    """By training length."""
    lines = [
        "| data | epochs | right: trained on | held out | mean score | share >= 0.25 | less noise | ranks, corrected |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, world in worlds.items():
        for epochs, row in world["by_epochs"].items():
            ranks = row.get("rank agreement with the usual length at 0.8, corrected")
            lines.append(
                f"| {name} | {epochs} | {row['accuracy']['trained']:.1%} | {row['accuracy']['held-out']:.1%} | "
                f"{plus_minus(row['mean'], 3)} | {percent(row['share'])} | {percent(row['share without noise'])} | "
                f"{plus_minus(ranks) if ranks else 'usual'} |"
            )
    return "\n".join(lines)


def null_table(worlds: dict[str, Any]) -> str:
    """Shuffled masks at each fraction and shuffled labels."""
    lines = ["| data | null | 95th percentile | maximum | examples >= 0.25 |", "|---|---|---|---|---|"]
    for name, world in worlds.items():
        for r, row in world["null"]["masks"].items():
            lines.append(
                f"| {name} | masks shuffled, r = {r} | {plus_minus(row['95th percentile'], 3)} | "
                f"{plus_minus(row['maximum'], 3)} | {plus_minus(row['examples at 0.25 and more'], 1)} |"
            )
        for epochs, row in world["null"]["labels"].items():
            count = row["share"][0] * world["n_train"]
            lines.append(
                f"| {name} | labels shuffled, {epochs} epochs (median {row['median']:.2f}) | {row['95th percentile']:.3f} | "
                f"{row['maximum']:.3f} | {count:.0f} |"
            )
    return "\n".join(lines)


def made(name: str, world: dict[str, Any]) -> str:
    """What one data set took."""
    return (
        f"- {name}: n = {world['n_train']:,}; {world['models_at_each_fraction']} models at each fraction, "
        f"{sum(world['alone']['drawn'])} examples left out alone with {world['seeds_alone']} seeds each; "
        f"{world['models']:,} models in all, {world['model_seconds']:.0f} s beside other work"
    )


def percent(quantity: list[float]) -> str:
    """A share and its error."""
    return f"{100 * quantity[0]:.1f} ± {100 * quantity[1]:.1f}%"


def plus_minus(quantity: list[float], digits: int = 2) -> str:
    """Value and standard error."""
    return f"{quantity[0]:.{digits}f} ± {quantity[1]:.{digits}f}"


if __name__ == "__main__":
    main()
