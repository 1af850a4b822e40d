"""One seed gives one answer, however the work was cut up, and what is on disk is never trained again.

Runs last for days, so they are extended, continued elsewhere and verified again with more models; a result may depend on
none of this, and nothing may be paid for twice. Most tests therefore do the same thing in two ways and compare the outcomes
bit for bit, or look at the blocks, where every model that was trained is. The network is linear, since it
compiles fastest; the design balanced, since all of its models are in one collection, but where the collections of grouped
runs and of covered sets are the matter.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import infl
from infl.pipeline.verify import verified_effects
from infl.records import Array, Dataset, ForgetSet, Groups, InputError, Verdict
from infl.store import Run, cover_name, leave_out_name, open_run
from infl.training.ensemble import Ensemble
from infl.training.grouping import make_groups
from infl.training.model import train_model
from infl.training.subsets import Design, draw_masks
from infl.untraining.effects import fit_predictor
from tests.blocks import delete_blocks, stored_blocks, stored_models
from tests.commands import python

LINEAR = infl.Network(
    init=lambda key, x: 0.01 * jax.random.normal(key, (x[0].size, 10)),
    apply=lambda weights, x: x.reshape(len(x), -1) @ weights,
    name="linear",
)
ALGORITHM = infl.Algorithm(network=LINEAR, epochs=2, batch_size=20)
LAYOUT = infl.Layout(models_per_device=4)
BALANCED = Design("balanced", 0.7)
ALL_GROUPED = Design("grouped", 0.7, grouped_share=1.0)
N_MODELS, N_REFERENCES = 60, 8
SETS: dict[str, Any] = {
    "few": [50, 5, 44],
    "a third": list(range(0, 60, 3)),
    "known": {"ids": [5, 6, 7, 8, 9, 10], "concept": list(range(5, 15))},
}


def train(digits: Dataset | None, folder: Path | None, n_models: int = N_MODELS, **settings: Any) -> Run:
    """A new run is balanced where nothing else is said; one that exists is asked for its own design."""
    new = folder is None or not (folder / "run.json").exists()
    given = {"n_references": N_REFERENCES, "algorithm": ALGORITHM, "layout": LAYOUT, "quiet": True, **settings}
    given = {"design": BALANCED if new else None, **given}
    return infl.train(digits, run=folder, n_models=n_models, **given)


def verify(run: Run | Path, sets: Any = SETS, n_models: int = 6, **settings: Any) -> list[Verdict]:
    given = {"algorithm": ALGORITHM, "layout": LAYOUT, "quiet": True, **settings}
    return infl.verify(run, sets, n_models=n_models, **given)


def arrays(run: Run, collection: str = "design") -> dict[str, Array]:
    return vars(run.outcomes(collection).load())


def assert_equal(run: Run, other: Run, collection: str) -> None:
    assert run.outcomes(collection).models == other.outcomes(collection).models
    for name, array in arrays(run, collection).items():
        np.testing.assert_array_equal(array, arrays(other, collection)[name], err_msg=name)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def trained(run: Run) -> Counter[tuple[str, int]]:
    """How many blocks hold each model."""
    return Counter(stored_models(run.folder))


def assert_each_trained_once(run: Run, n_models: dict[str, int]) -> None:
    assert trained(run) == Counter((name, model) for name, n in n_models.items() for model in range(n))


@pytest.fixture(scope="module")
def once(small_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Sixty models and eight references, trained in one go."""
    return train(small_digits, tmp_path_factory.mktemp("once") / "run")


@pytest.fixture(scope="module")
def verified(once: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Verdict]]:
    """A copy of it in which three sets of different sizes were verified with six models each."""
    folder = shutil.copytree(once.folder, tmp_path_factory.mktemp("verified") / "run")
    verdicts = verify(folder)
    return open_run(folder), verdicts


@pytest.fixture(scope="module")
def alone(small_digits: Dataset) -> Callable[..., Any]:
    """Trains one model of a key and a mask, with no pipeline around it."""
    images, labels = jnp.asarray(small_digits.images), jnp.asarray(small_digits.labels)
    return jax.jit(lambda key, mask: train_model(key, mask, images, labels, algorithm=ALGORITHM, network=LINEAR))


@pytest.fixture
def copy(once: Run, tmp_path: Path) -> Path:
    return shutil.copytree(once.folder, tmp_path / "run")


# One seed, one answer


def test_an_extended_run_equals_one_trained_at_once(once: Run, small_digits: Dataset, tmp_path: Path) -> None:
    train(small_digits, tmp_path / "run", 40, n_references=3)
    extended = train(None, tmp_path / "run")
    assert_equal(extended, once, "design")
    assert_equal(extended, once, "full")
    assert_each_trained_once(extended, {"design": N_MODELS, "full": N_REFERENCES})


def test_models_that_are_missing_in_between_are_trained(copy: Path, once: Run) -> None:
    delete_blocks(copy, "design", 0, 2)
    delete_blocks(copy, "full", 0)
    assert len(open_run(copy).complete("design")) < N_MODELS
    assert len(open_run(copy).complete("full")) < N_REFERENCES
    run = train(None, copy)
    assert_each_trained_once(run, {"design": N_MODELS, "full": N_REFERENCES})
    assert_equal(run, once, "design")
    assert_equal(run, once, "full")


def test_training_again_trains_nothing(copy: Path, small_digits: Dataset) -> None:
    before = stored_blocks(copy)
    for n_models in (N_MODELS, 10):
        assert train(small_digits, copy, n_models).complete("design") == list(range(N_MODELS))
    assert stored_blocks(copy) == before


def test_the_layout_does_not_change_the_outcomes(once: Run, small_digits: Dataset, tmp_path: Path) -> None:
    other = train(small_digits, tmp_path / "run", layout=infl.Layout(n_devices=1, models_per_device=7, mode="vmap"))
    for collection in ("design", "full"):
        mine, expected = arrays(other, collection), arrays(once, collection)
        np.testing.assert_array_equal(mine["masks"], expected["masks"])
        np.testing.assert_array_equal(mine["correct"], expected["correct"])
        np.testing.assert_allclose(mine["margin"], expected["margin"], rtol=2e-3, atol=2e-4)


def test_the_seed_decides_and_a_temporary_folder_is_gone_at_exit(once: Run, small_digits: Dataset) -> None:
    other = train(small_digits, None, 10, n_references=2, seed=np.int64(5))
    assert other.folder.parent == Path(tempfile.gettempdir())
    assert (once.manifest["seed"], open_run(other.folder).manifest["seed"]) == (0, 5)
    np.testing.assert_array_equal(arrays(other)["masks"], draw_masks(BALANCED, range(10), n_train=60, seed=5))
    # The two references differ by their keys alone, here and across the seeds.
    margins = np.concatenate([arrays(other, "full")["margin"], arrays(once, "full")["margin"][:2]])
    assert len(np.unique(margins, axis=0)) == 4
    assert train(None, other.folder, 10, n_references=2).manifest["seed"] == 5
    code = (
        "import infl; data = infl.load('digits', n_train=40, n_held_out=20); run = infl.train(data, n_models=1, "
        "n_references=0, design=infl.Design('uniform'), algorithm=infl.Algorithm(hidden=(2,), epochs=1), quiet=True); "
        "print(run.folder)"
    )
    done = python("-W", "error::ResourceWarning", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert not Path(done.stdout.strip()).exists()


# Grouped designs


USERS = Groups(("users",), np.where(np.arange(60) < 24, np.arange(60) // 8, -1)[None])


@pytest.fixture(scope="module")
def grouped(small_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Thirty-one models as infl trains them where no design is named, with groups of the user's own."""
    return train(
        small_digits, tmp_path_factory.mktemp("grouped") / "run", 31, n_references=2, design=None, groups=USERS
    )


@pytest.fixture
def groups_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infl.pipeline.train.make_groups", lambda *_, **__: pytest.fail("groups are found anew"))


def test_half_of_the_models_leave_out_groups_and_half_are_uniform(grouped: Run, small_digits: Dataset) -> None:
    assert_each_trained_once(grouped, {"design": 15, "grouped": 16, "full": 2})
    groups: Any = grouped.collection("grouped").groups
    assert groups == make_groups(small_digits, ALGORITHM, seed=0, known=USERS)
    assert groups.names == ("labels", "10 clusters", "users")
    described = {"names": list(groups.names), "sha256": groups.fingerprint()}
    expected = {"kind": "grouped", "fraction": [0.7, 0.97], "grouped_share": 0.5, "groups": described}
    assert open_run(grouped.folder).manifest["design"] == expected
    memorization = infl.memorization(open_run(grouped.folder).outcomes("design"))
    assert (memorization.n_in + memorization.n_out == 15).all()  # scores rest on the uniform half
    design = Design("grouped", (0.7, 0.97), groups=groups)
    for name, drawn in (("grouped", design), ("design", Design("uniform", (0.7, 0.97)))):
        masks = arrays(grouped, name)["masks"]
        np.testing.assert_array_equal(masks, draw_masks(drawn, range(len(masks)), n_train=60, seed=0))


def test_a_stored_model_is_the_one_that_its_seed_and_number_name(
    grouped: Run, alone: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grouped ones start as models of D do: what a start does on D can be taken off only where it is the same start.

    Uniform ones start on their own: scores want independent models.
    """
    streams = {"design": 0, "grouped": 1, "full": 1}  # of the reference models
    for name, stream in streams.items():
        stored = arrays(grouped, name)
        for model in (0, len(stored["masks"]) - 1):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), stream), model)
            expected = alone(key, jnp.asarray(stored["masks"][model]))
            np.testing.assert_allclose(stored["margin"][model], expected.margin, rtol=2e-3, atol=1e-4)
    assert grouped.outcomes("design").load().init_seeds is None
    for name in ("grouped", "full"):
        np.testing.assert_array_equal(grouped.outcomes(name).load().init_seeds, grouped.outcomes(name).models)
    monkeypatch.setattr("infl.store.collections.N_INIT_SEEDS", 7)
    np.testing.assert_array_equal(grouped.outcomes("grouped").load().init_seeds, np.arange(16) % 7)
    np.testing.assert_array_equal(grouped.outcomes("full").load().init_seeds, [0, 1])


@pytest.mark.usefixtures("groups_are_not_found")
def test_an_extended_grouped_run_keeps_its_groups_and_equals_one_trained_at_once(
    grouped: Run, tmp_path: Path, small_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The groups of the shorter run were found by other means than those there are now: they are kept all the same."""
    with monkeypatch.context() as patch:
        patch.setattr("infl.pipeline.train.make_groups", lambda *_, **__: grouped.collection("grouped").groups)
        train(small_digits, tmp_path / "run", 12, n_references=2, design=None)
    for named in (None, USERS):
        extended = train(None, tmp_path / "run", 20 if named is None else 31, n_references=2, groups=named)
    for collection in ("design", "grouped", "full"):
        assert_equal(extended, grouped, collection)
    assert_each_trained_once(extended, {"design": 15, "grouped": 16, "full": 2})
    assert open_run(tmp_path / "run").collection("grouped").groups == grouped.collection("grouped").groups


def test_a_run_killed_before_its_first_model_keeps_its_groups(
    small_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("infl.pipeline.jobs.make_executor", kill)
        with pytest.raises(Killed):
            train(small_digits, tmp_path / "run", 4, n_references=0, design=None)
    found = open_run(tmp_path / "run").collection("grouped").groups
    monkeypatch.setattr("infl.pipeline.train.make_groups", lambda *_, **__: pytest.fail("groups are found anew"))
    run = train(small_digits, tmp_path / "run", 4, n_references=0)
    masks = draw_masks(Design("grouped", (0.7, 0.97), groups=found), range(2), n_train=60, seed=0)
    np.testing.assert_array_equal(arrays(run, "grouped")["masks"], masks)


# Covered sets


COVER = {"few": [50, 5, 44], "a sixth": list(range(0, 60, 6))}


@pytest.fixture(scope="module")
def covered(once: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy of the sixty models to which twelve models for each of two sets were added."""
    folder = shutil.copytree(once.folder, tmp_path_factory.mktemp("covered") / "run")
    return train(None, folder, cover=COVER, models_per_covered_set=12)


def test_covering_leaves_the_other_models_as_they_are_and_again_trains_nothing(
    covered: Run, once: Run, tmp_path: Path
) -> None:
    for collection in ("design", "full"):
        before, after = (snapshot(run.folder / "collections" / collection / "blocks") for run in (once, covered))
        assert before == after
    assert covered.manifest == once.manifest
    folder = shutil.copytree(covered.folder, tmp_path / "run")
    before = stored_blocks(folder)
    records = [ForgetSet("a sixth", tuple(range(0, 60, 6))), ForgetSet("few", (5, 44, 50), (5, *range(40, 60)))]
    reordered = {"a sixth": COVER["a sixth"][::-1], "few": [5, 44, 50]}
    for sets, n_models in ((COVER, 1), (reordered, 12), (records, 12)):
        train(None, folder, cover=sets, models_per_covered_set=n_models)
    assert stored_blocks(folder) == before


def test_more_covering_models_are_those_trained_at_once_and_other_sets_stand_beside_them(
    covered: Run, tmp_path: Path, small_digits: Dataset
) -> None:
    run = train(small_digits, tmp_path / "run", 3, n_references=0, cover=COVER, models_per_covered_set=5)
    renamed = {f"other {name}": ids for name, ids in COVER.items()}
    name, other = cover_name(COVER), cover_name(renamed)
    assert_each_trained_once(run, {"design": 3, name: 10})
    train(None, tmp_path / "run", 3, n_references=0, cover=renamed, models_per_covered_set=2)
    run = train(None, tmp_path / "run", 3, n_references=0, cover=COVER, models_per_covered_set=12)
    assert_each_trained_once(run, {"design": 3, name: 24, other: 4})
    assert_equal(run, covered, name)
    # Even of the same ids, the subsets are drawn anew, and so are the keys: nothing of one collection repeats in another.
    for field in ("masks", "margin"):
        assert (arrays(run, other)[field] != arrays(run, name)[field][:4]).any(axis=1).all()


# Predict


ADDITIVE = partial(infl.predict, predictor="additive")


def test_predictions_are_those_of_the_same_outcomes_in_memory(once: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits is read once and what does not is streamed for each set: the prediction must not tell."""
    design, full, data = once.outcomes("design").load(), once.outcomes("full").load(), once.dataset()
    given: Any = {"images": data.images, "labels": data.labels, "n_classes": 10}
    fitted = fit_predictor("additive", sources=[design], reference=full, **given)
    verdicts, effects = ADDITIVE(once, SETS), list(infl.predict_effects(once, SETS, predictor="additive"))
    expected = fitted([verdict.forget_set for verdict in verdicts])
    for verdict, one, wanted in zip(verdicts, effects, expected, strict=True):
        np.testing.assert_array_equal(one.effect, wanted.effect)
        np.testing.assert_array_equal(one.se, wanted.se)
        concept = wanted.forget_set.concept
        whole = None if concept is None else next(iter(fitted([ForgetSet("whole", concept)])))
        assert repr(verdict) == repr(infl.judge(replace(wanted, whole=whole)))  # NaN equals itself in writing only
    monkeypatch.setattr("infl.pipeline.predict.MAX_OUTCOMES_HELD", 0)
    for one, other in zip(effects, infl.predict_effects(once, SETS, predictor="additive"), strict=True):
        np.testing.assert_allclose(one.effect, other.effect, atol=1e-6)


# Verify


def test_measured_effects_are_mean_differences_of_paired_models(
    verified: tuple[Run, list[Verdict]], alone: Callable[..., Any]
) -> None:
    run, verdicts = verified
    base = jax.random.fold_in(jax.random.key(0), 1)
    keys = [jax.random.fold_in(base, model) for model in range(6)]
    margins = np.stack([alone(key, jnp.ones(60, bool)).margin for key in keys]).astype(np.float16).astype(float)
    width = np.maximum(0.9 * margins.std(axis=0) * 6**-0.2, 0.25)
    on_all = stats.norm.cdf(margins / width)
    measured = infl.verify_effects(run, SETS, n_models=6, algorithm=ALGORITHM, quiet=True)
    for verdict, effects in zip(verdicts, measured, strict=True):
        ids = list(verdict.forget_set.ids)
        left = np.stack([alone(key, jnp.ones(60, bool).at[jnp.array(ids)].set(False)).margin for key in keys])
        without = stats.norm.cdf(left.astype(np.float16) / width)
        np.testing.assert_allclose(effects.replicates, on_all - without, atol=1e-5)
        effect = on_all.mean(axis=0) - without.mean(axis=0)
        assert verdict.source == "retrained"
        assert verdict.n_models == 6
        assert verdict.self_influence.value == pytest.approx(effect[ids].mean(), abs=1e-5)
        retained = np.setdiff1d(np.arange(60), ids)
        cross = (effect[retained].sum() + 60 / 30 * effect[60:].sum()) / len(ids)
        assert verdict.cross_influence.value == pytest.approx(cross, abs=1e-4)
    masks = {name: arrays(run, name)["masks"] for name in run.collections() if name.startswith("without")}
    assert sorted((~mask).sum(axis=1).tolist() for mask in masks.values()) == [[3] * 6, [6] * 6, [20] * 6]


def test_a_run_tells_which_sets_it_was_verified_for(verified: tuple[Run, list[Verdict]], tmp_path: Path) -> None:
    folder = shutil.copytree(verified[0].folder, tmp_path / "run")
    sets = open_run(folder).forget_sets()
    assert sets == [verdict.forget_set for verdict in verified[1]]
    assert [s.concept for s in sets] == [None, None, tuple(range(5, 15))]
    record = folder / "collections" / leave_out_name(SETS["few"]) / "collection.json"
    whole = record.read_text()
    record.write_text('{"forget_set": {"ids": [1, 2]}}')
    with pytest.raises(InputError, match="is damaged.* delete it and run the command that made it again"):
        open_run(folder).forget_sets()
    record.write_text(whole)
    before = stored_blocks(folder)
    measured = list(verified_effects(folder))
    assert [infl.judge(effects) for effects in measured] == verified[1] == verify(folder)
    assert stored_blocks(folder) == before
    verify(folder, {"few": SETS["few"]}, n_models=8)
    assert [e.n_models for e in verified_effects(folder)] == [8, 6, 6]
    assert [e.forget_set.name for e in verified_effects(folder, {"new": [55], "mine": SETS["few"]})] == ["mine"]


def test_a_run_in_memory_knows_what_was_trained_since(copy: Path) -> None:
    delete_blocks(copy, "full")
    run, few = open_run(copy), {"few": SETS["few"]}
    with pytest.raises(InputError, match="train with --n-references"):
        ADDITIVE(run, few)
    verify(run, few)
    assert ADDITIVE(run, few) == ADDITIVE(copy, few)


# Divergence


@pytest.fixture(scope="module")
def exploding(small_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which exactly the models that train on example 0 diverge.

    One pixel is zero everywhere but in example 0, where it is huge. Weights start at zero, so a model that leaves example
    0 out keeps a zero weight on that pixel, and nothing explodes.
    """
    x_train, x_held_out = small_digits.x_train.copy(), small_digits.x_held_out.copy()
    x_train[:, 0, 0] = x_held_out[:, 0, 0] = 0
    x_train[0, 0, 0] = 1e30
    data = infl.from_arrays(x_train, small_digits.y_train, x_held_out, small_digits.y_held_out)
    with pytest.warns(UserWarning, match="--standardize"):
        return train(data, tmp_path_factory.mktemp("exploding") / "run", algorithm=EXPLODING)


EXPLODING = infl.Algorithm(
    network=infl.Network(init=lambda key, x: jnp.zeros((x[0].size, 10)), apply=LINEAR.apply, name="zeros"),
    epochs=2,
    batch_size=20,
)


def test_diverged_models_are_marked_counted_and_left_out(exploding: Run) -> None:
    masks = draw_masks(BALANCED, range(N_MODELS), n_train=60, seed=0)
    diverged = np.flatnonzero(masks[:, 0]).tolist()
    assert len(diverged) == 42
    assert exploding.diverged("design") == diverged
    assert exploding.diverged("full") == list(range(N_REFERENCES))
    content = exploding.to_dict()["collections"]["design"]
    assert (content["complete"], content["missing"], content["diverged"]) == (N_MODELS, 0, diverged)
    stored = exploding.outcomes("design").load()
    np.testing.assert_array_equal(stored.masks, masks[~masks[:, 0]])
    assert np.isfinite(stored.of("margin")).all()
    memorization = infl.memorization(stored)
    assert (memorization.n_in + memorization.n_out == 18).all()
    assert np.isnan(memorization.value[0])
    assert np.isfinite(memorization.value[1:]).all()
    assert np.isfinite(infl.influence(stored).value[1:]).all()
    before = stored_blocks(exploding.folder)
    train(None, exploding.folder, algorithm=EXPLODING)
    assert stored_blocks(exploding.folder) == before


@pytest.mark.filterwarnings("ignore:the pixels")
def test_what_diverged_models_leave_unknown_is_said(exploding: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="measured from models of all of D, and this run has none"):
        infl.predict(exploding, {"few": [1, 2]})
    folder = shutil.copytree(exploding.folder, tmp_path / "run")
    with pytest.raises(InputError, match="set 'few': of 4 pairs of models none stayed finite"):
        verify(folder, {"few": [0, 1]}, 4, algorithm=EXPLODING)
    assert open_run(folder).diverged(leave_out_name([0, 1])) == []
    assert open_run(folder).complete(leave_out_name([0, 1])) == [0, 1, 2, 3]


def test_a_mistake_in_a_call_is_named_before_anything_is_trained(
    once: Run, grouped: Run, small_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that a command line can make as well are in tests/cli/test_command_mistakes.py."""
    monkeypatch.setattr(Ensemble, "__init__", lambda *_, **__: pytest.fail("models are trained first"))
    before = snapshot(once.folder), snapshot(grouped.folder)
    new, short = partial(train, small_digits, tmp_path / "new"), Groups(("a",), np.zeros((1, 59), int))
    other_network = infl.Algorithm(network=LINEAR, batch_size=20)
    by_groups = Design("grouped", (0.7, 0.97), groups=USERS)
    mistakes: list[tuple[Callable[[], Any], str]] = [
        (lambda: new(0), "at least 1 model and 0 references, got 0 and 8"),
        (lambda: new(5, n_references=-1), "got 5 and -1"),
        (lambda: new(standard_error=0.1, design=ALL_GROUPED), "rest on no grouped models"),
        (lambda: new(groups=short, design=None), "one entry for each of 60 training examples, got 59"),
        (lambda: new(design=Design("grouped", 0.7, groups=short)), "got 59"),
        (lambda: new(groups=USERS, design=Design("grouped", 0.7, groups=short)), "give them in one place"),
        (lambda: train(None, None), "is not a run yet: name the data set"),
        (lambda: train(small_digits, once.folder, seed=5), "seed is 0 in the run, 5 asked for"),
        (lambda: train(None, grouped.folder, groups=short), "was made with other groups"),
        (lambda: train(None, grouped.folder, design=by_groups), "design.groups.sha256 is '.*' in the run"),
        (lambda: train(None, once.folder, groups=USERS), "by design grouped, and the design is balanced"),
        (lambda: infl.verify(once, SETS, quiet=True), r"network was given in Python.*algorithm="),
        (lambda: verify(once, algorithm=other_network), "algorithm.epochs is 2 in the run, 30 asked for"),
        (lambda: infl.predict(once, {"a": list(range(60))}), "set 'a' is all of D"),
        (lambda: infl.predict(once, [ForgetSet("a", (1,)), ForgetSet("a", (2,))]), "the name 'a' comes twice"),
        (lambda: infl.predict(once.folder / "collections", SETS), "is not a run folder: it has no run.json"),
    ]
    for call, said in mistakes:
        with pytest.raises(InputError, match=said):
            call()
    assert (snapshot(once.folder), snapshot(grouped.folder)) == before
    assert not (tmp_path / "new").exists()
