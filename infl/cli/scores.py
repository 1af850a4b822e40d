"""Commands that read scores out of a run: of all examples or of one, printed and in files for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from infl.cli.options import Outcome, RunToRead, Whole
from infl.cli.outputs import NewFolder, Output, OutputFile, accuracy_fields
from infl.cli.printing import say, show_comparison, show_influences, show_scores

if TYPE_CHECKING:
    from infl.records import Dataset, Estimate, OutcomeKind, ProtocolName, ScoredPair
    from infl.scores.power import Findings
    from infl.store import Run


@dataclass(frozen=True, kw_only=True)
class ScoresOutput(Output):
    """What is written beside what is printed."""

    table: OutputFile = None
    """A table, .csv or .parquet: memorization of all and the listed pairs; of one example, all its pairs."""
    arrays: OutputFile = None
    """All scores, .npz, for runs whose matrix fits in memory."""
    matrix: NewFolder = None
    """The influence of all on all as a folder of zarr arrays, tile by tile, for runs whose matrix does not fit."""
    feldman_zhang: OutputFile = None
    """Memorization, and influence within each class, .npz in the layout of their published scores."""
    tokens: OutputFile = None
    """With --example, of a document: figure of its text, with what models without it no longer predict. Trains 16 models of
    all of D and 16 without it, again where the run has them."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Memorization of each training example and influence of each on others, with standard errors."""

    run: RunToRead
    """Folder of the run, or its URL."""
    n_top: int = 10
    """Examples and pairs to list."""
    example: Whole = None
    """List instead who influences this example, and whom it influences: a training id, or a held-out one (they go on after)."""
    outcome: Outcome = None
    """What models are scored by: accuracy, of documents by tokens (correct), margin, and of documents log-probability a token
    or whether the second half is all right (exact). (default: correct, or what the run has)"""
    q_over: Literal["matrix", "column"] = "matrix"
    """What false discovery rates of pairs are over: all pairs, or the pairs of each target, as of a question about it alone."""
    output: tyro.conf.OmitArgPrefixes[ScoresOutput] = ScoresOutput()

    def __call__(self) -> None:
        import infl
        from infl.records import InputError
        from infl.report.exchange import check_table
        from infl.store.blocks import HELD_OUT_ONLY

        if self.n_top < 1:
            raise InputError(f"--n-top: expected at least 1, got {self.n_top}")
        if self.example is not None and (self.output.arrays or self.output.feldman_zhang or self.output.matrix):
            raise InputError("--arrays, --matrix and --feldman-zhang are about all examples: leave --example out")
        if self.example is not None and self.q_over != "matrix":
            raise InputError(
                "--q-over is about all pairs: with --example it is over the pairs of each table, leave it out"
            )
        if self.example is None and self.output.tokens:
            raise InputError("--tokens draws one document: name it with --example")
        check_table(self.output.table)
        run = infl.open_run(self.run)
        outcome = self.outcome or run.outcome_kinds[0]
        if outcome not in run.outcome_kinds:
            raise InputError(f"--outcome {outcome}: this run has {' and '.join(run.outcome_kinds)}; take one of these")
        if run.held_out_only and (self.output.arrays or self.output.matrix or self.output.feldman_zhang):
            raise InputError(f"--arrays, --matrix and --feldman-zhang are of all scores, and {HELD_OUT_ONLY}")
        if self.example is None:
            self._score_all(run, outcome)
        else:
            self._score_one(run, outcome, self.example)

    def _score_all(self, run: Run, kind: OutcomeKind) -> None:
        import infl
        from infl.pipeline.score import influence_within_classes, shrunk_scores, write_influence
        from infl.report.exchange import scores_as_json, write_feldman_zhang, write_scores, write_table
        from infl.report.tables import memorization_frame, pairs_frame
        from infl.scores.evidence import joint_q_values

        dataset, outcomes = run.dataset(), run.outcomes("design")
        memorization, pairs, found = score(run, dataset, kind, n_top=self.n_top, q_over=self.q_over)
        numbers = {"n_top": self.n_top, "n_models": outcomes.n_models, "n_train": outcomes.n_train}
        smallest = {"memorization": found.memorization, "influence": found.influence}
        content = scores_as_json(memorization, pairs, q=found.q, detectable=smallest, **numbers)
        self.output.write(content | {"outcome": kind} | accuracy_fields(run.accuracy()))
        if self.output.table:
            of_all = [] if memorization is None else [memorization_frame(memorization, dataset, q=found.q)]
            write_table(self.output.table, *of_all, pairs_frame(pairs, dataset.pairs_protocol, dataset))
        if memorization is not None and self.output.arrays:
            protocols = ("left-out", "held-out")[: 1 + (dataset.n_held_out > 0)]
            parts = [infl.influence(outcomes, protocol=protocol, outcome=kind) for protocol in protocols]
            q = found.q, joint_q_values(*parts, q_over=self.q_over)
            shrunk = shrunk_scores(dataset, outcomes, *parts)
            write_scores(self.output.arrays, memorization, *parts, q=q, shrunk=shrunk)
        if self.output.matrix:
            write_influence(outcomes, self.output.matrix, outcome=kind, q_over=self.q_over)
        if memorization is not None and self.output.feldman_zhang:
            classes = influence_within_classes(outcomes, dataset, kind)
            write_feldman_zhang(self.output.feldman_zhang, memorization, classes, dataset)

    def _score_one(self, run: Run, kind: OutcomeKind, example: int) -> None:
        import infl
        from infl.records import InputError
        from infl.report.exchange import example_as_json, write_table
        from infl.report.tables import influence_frame
        from infl.scores.strongest import evident_pairs

        outcomes, dataset = run.outcomes("design"), run.dataset()
        n_train, n_columns = outcomes.n_train, outcomes.n_columns
        if not 0 <= example < n_columns:
            raise InputError(
                f"example: expected a training example 0..{n_train - 1} or a held-out one {n_train}..{n_columns - 1}, "
                f"got {example}"
            )
        own_protocol: ProtocolName = "left-out" if example < n_train else "held-out"
        on_train, parts = example < n_train and not run.held_out_only, {}
        if on_train or example >= n_train:
            parts["influenced_by"] = infl.influence(outcomes, columns=[example], protocol=own_protocol, outcome=kind)
        if example < n_train and n_columns > n_train:
            parts["held_out"] = infl.influence(outcomes, sources=[example], outcome=kind)
        if on_train:
            parts["left_out"] = infl.influence(outcomes, sources=[example], protocol="left-out", outcome=kind)
        listed = {name: (part.protocol, evident_pairs(part, n_pairs=self.n_top)) for name, part in parts.items()}
        memorization = infl.memorization(outcomes, outcome=kind) if on_train else None
        show_influences(run, dataset, example, memorization, listed, kind)
        numbers = {"n_models": outcomes.n_models, "n_train": n_train}
        content = example_as_json(example, memorization, listed, outcome=kind, **numbers)
        self.output.write(content | accuracy_fields(run.accuracy()))
        if self.output.table:
            q = {name: None if part.p is None else infl.q_values(part.p) for name, part in parts.items()}
            write_table(self.output.table, *(influence_frame(part, dataset, q=q[name]) for name, part in parts.items()))
        if self.output.tokens:
            from infl.pipeline.tokens import token_effects
            from infl.training.caches import cache_compiled_programs

            cache_compiled_programs()
            say(f"tokens: {infl.plot.save(infl.plot.tokens(token_effects(run, example), dataset), self.output.tokens)}")


def score(
    run: Run,
    dataset: Dataset,
    kind: OutcomeKind,
    *,
    n_top: int,
    q_over: Literal["matrix", "column"] = "matrix",
) -> tuple[Estimate | None, list[ScoredPair], Findings]:
    """Memorization where there are outcomes of D, the strongest pairs and what of both counts as found, printed and drawn."""
    import infl
    from infl.scores.power import findings

    outcomes = run.outcomes("design")
    memorization = None if run.held_out_only else infl.memorization(outcomes, outcome=kind)
    protocols = (dataset.pairs_protocol,)
    strongest = infl.strongest_influences(outcomes, protocols=protocols, n_pairs=n_top, outcome=kind, q_over=q_over)
    pairs, found = strongest.pairs(n_top), findings(outcomes, memorization, strongest)
    show_scores(run, dataset, memorization, pairs, n_top=n_top, found=found, q_over=q_over)
    return memorization, pairs, found


@dataclass(frozen=True, kw_only=True)
class Compare:
    """How far the scores of two runs, or of a run and a file, agree in rank and in value, and whether errors explain it."""

    one: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="A")]
    """A run, its folder or URL; or a file of scores: the .npz of `infl scores --arrays` or `--feldman-zhang` (or theirs), a
    table as of `--table`, or one with the columns example and value."""
    other: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="B")]
    """Likewise."""
    figure: OutputFile = None
    """Figure to write, one score against the other (default: compare.png among the figures of the first that is a run)."""
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    def __call__(self) -> None:
        import infl

        comparison = infl.compare(self.one, self.other)
        show_comparison(comparison, self.figure or _figure_of(self.one) or _figure_of(self.other))
        self.output.write(comparison.to_dict())


def _figure_of(place: str) -> Path | None:
    import infl
    from infl.store import is_run

    return infl.open_run(place).folder / "figures" / "compare.png" if is_run(place) else None
