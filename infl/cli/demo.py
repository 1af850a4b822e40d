"""The demo: from data that come with infl to the page of a run, of digits or of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import tyro

from infl.cli.options import quoted
from infl.cli.outputs import Output, RunToWrite, accuracy_fields
from infl.cli.printing import say, show_verdicts
from infl.cli.scores import score
from infl.records import Dataset, Estimate, ForgetSet, Thresholds

if TYPE_CHECKING:
    from infl.records import Verdict
    from infl.store import Run

# Whole chapters: two formulaic ones, two pairs that are almost the same word for word, and three of single sayings.
CHAPTERS = (
    *("Numbers 7", "Psalm 136"),
    *("2 Samuel 22", "Psalm 18", "Ezra 2", "Nehemiah 7"),
    *("Job 41", "Proverbs 10", "Proverbs 15"),
)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Digits from end to end: train, score, predict and verify forget sets of many kinds; figures and a page of them.

    `infl demo text` does it with verses of the King James Version and small language models.
    """

    data: Annotated[Literal["digits", "text"], tyro.conf.Positional, tyro.conf.arg(metavar="{digits,text}")] = "digits"
    """What models train on."""
    run: RunToWrite = "runs/demo"
    """Folder of the run, or its URL; continued where it exists."""
    n_models: int = 1000
    """Models trained on random subsets."""
    n_references: int = 64
    """Models trained on all of D, and retrained without each forget set."""
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    question: ClassVar = "infl demo: what happens if a digits classifier must forget some of its training examples?"
    example: ClassVar = "digit"
    check: ClassVar = "infl predict {named} --forget mine.json    # and what forgetting it would do"

    @classmethod
    def continuing(cls, options: list[str]) -> type:
        """The demo that the first word names."""
        return TextDemo if options[:1] == ["text"] else cls

    def __call__(self) -> None:
        import infl
        from infl.report.exchange import verdicts_as_json
        from infl.training.caches import cache_compiled_programs

        cache_compiled_programs()
        say(f"{self.question}\n")
        dataset = self.load()
        run = infl.train(dataset, run=self.run, n_models=self.n_models, n_references=self.n_references)
        memorization, *_ = score(run, dataset, "correct", n_top=5)
        assert memorization is not None
        sets = self.forget_sets(dataset, memorization)
        infl.forget_sets.write_forget_sets(run.folder / "forget.json", sets)
        predicted = infl.predict(run, sets)
        measured = infl.verify(run, sets, n_models=self.n_references)
        show_verdicts(run, predicted, measured)
        self.explain(run, predicted, measured)
        self.output.write(
            accuracy_fields(run.accuracy()) | verdicts_as_json(predicted, measured, thresholds=Thresholds())
        )
        say(f"\npage: {infl.write_report(run).path}")
        named, example = f"--run {quoted(self.run)}", int(np.nanargmax(memorization.rankable))
        most = f"who influences the most memorized {self.example}, and whom it influences"
        say("\nNext, three to try:")
        say(f"  infl scores {named} --example {example}    # {most}")
        say(
            f"  infl forget neighbours {named} --example {example} --size 20 --out mine.json    # a forget set of your own"
        )
        say(f"  {self.check.format(named=named)}")

    def load(self) -> Dataset:
        import infl

        return infl.load("digits")

    def forget_sets(self, dataset: Dataset, memorization: Estimate) -> list[ForgetSet]:
        import infl

        return infl.forget_sets.varied_sets(dataset, memorization)

    def explain(self, run: Run, predicted: Sequence[Verdict], measured: Sequence[Verdict]) -> None:
        """What the table of verdicts shows."""
        import infl

        summed = infl.predict(run, [one.forget_set for one in predicted], predictor="additive")
        say(
            "\nIn redundant sets every member is covered by the others. Summing the influences of single examples misses that:"
        )
        for one, other, truth in zip(predicted, summed, measured, strict=True):
            if (name := one.forget_set.name).startswith(("class", "cluster")):
                say(f"  {name}: the sum {other.regime}, infl {one.regime}, retraining {truth.regime}")


@dataclass(frozen=True, kw_only=True)
class TextDemo(Demo):
    """Text from end to end: train small language models on verses, score, predict and verify forget sets; a page of them."""

    run: RunToWrite = "runs/demo-text"
    """Folder of the run, or its URL; continued where it exists."""
    n_models: int = 64
    """Models trained on subsets, half of them without whole groups of verses."""
    n_references: int = 16
    """Models trained on all of D, and at most retrained without each forget set."""

    question: ClassVar = (
        "infl demo text: what happens if a language model must forget some of the verses it trained on?"
    )
    example: ClassVar = "verse"
    check: ClassVar = (
        "infl verify {named} --forget mine.json --n-models 16    # and what forgetting it does, by retraining"
    )

    def load(self) -> Dataset:
        from infl.data.embedded import load_verses

        dataset = load_verses(CHAPTERS)
        say(
            f"{dataset.n_train} verses of {len(CHAPTERS)} chapters of the King James Version to train on; "
            f"{dataset.n_held_out} others of these chapters are held out.\n"
            f"{self.n_models} models train from nothing on parts of the verses each, half of them without groups that are "
            "alike. What a verse\n"
            f"teaches is what those with it do better. {self.n_references} train on all verses, and up to "
            f"{self.n_references} without each forget set.\n"
        )
        return dataset

    def forget_sets(self, dataset: Dataset, memorization: Estimate) -> list[ForgetSet]:
        import infl

        kinds = infl.forget_sets
        one, both = [], []
        for some in kinds.near_duplicate_sets(dataset):
            if some.concept is None and len(some) == 2:
                both += some.ids
            elif some.concept is not None and len(some.concept) == 2:
                one += some.ids
        chapters = [kinds.class_set(dataset, name, name=name) for name in ("Numbers 7", "Psalm 136", "Proverbs 10")]
        say(
            "\nmemorization is the fraction of the tokens of a verse that models predict right because they trained on it:\n"
            "near 1 for a saying like no other, 0 for a verse that others repeat. Influence is what it teaches of another.\n"
            "\nForget sets:\n"
            f"  random, {len(one)} verses of any kind\n"
            "  Numbers 7 and Psalm 136, whole chapters that repeat one pattern; Proverbs 10, in which no line is like another\n"
            f"  {len(one)} verses of which the training verses hold a near-duplicate, and both of each such pair"
        )
        return [
            kinds.random_set(dataset, len(one)),
            *chapters,
            ForgetSet("one of each pair", tuple(one)),
            ForgetSet("both of each pair", tuple(both)),
        ]

    def explain(self, run: Run, predicted: Sequence[Verdict], measured: Sequence[Verdict]) -> None:
        import infl

        summed = infl.predict(run, [one.forget_set for one in predicted], predictor="additive")
        say(
            "\nself   fraction of the tokens of forgotten verses that models no longer predict right\n"
            "harm   that fraction lost of the held-out verses that lose, added up, for each verse forgotten\n"
            "no-op: nothing is lost; local: the forgotten verses alone; spreading: others, too; indirect: others alone\n"
            "\nVerses that are alike cover for each other. Adding up what each of them teaches alone misses that:"
        )
        for one, other, truth in zip(predicted, summed, measured, strict=True):
            if (name := one.forget_set.name).startswith(("Numbers", "one")):
                influences = (verdict.self_influence for verdict in (other, one, truth))
                say("  {}: self by the sum {}, by infl {}, by retraining {}".format(name, *influences))
