"""A predictor that was fitted once is read back for the same models, and predicts the same bits.

Predictions must not depend on which command came first: what is read has to be what a new fit would be, fitted anew where the
models are others or a byte of the file has changed.
"""

import json
import shutil

import numpy as np
import pytest

import infl
from infl.__main__ import main
from infl.pipeline import fits, predict
from infl.records import InputError

SETS = {"some": [3, 14, 15], "more": list(range(30))}


@pytest.fixture
def run(small_run, tmp_path):
    shutil.copytree(small_run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("predictors"))
    return infl.open_run(tmp_path / "run")


@pytest.fixture
def n_fits(monkeypatch):
    """How often a predictor was fitted, as a list that grows."""
    calls, fit = [], predict.fit_predictor

    def counted(*arguments, **settings):
        calls.append(arguments)
        return fit(*arguments, **settings)

    monkeypatch.setattr(predict, "fit_predictor", counted)
    return calls


def effects(run):
    return [one.effect for one in infl.predict_effects(run, SETS, quiet=True)]


def test_a_fit_is_kept_for_its_models_and_predicts_the_same_bits(run, n_fits):
    first = effects(run)
    np.testing.assert_array_equal(effects(infl.open_run(run.folder)), first)
    assert len(n_fits) == 1

    (path,) = (run.folder / "predictors").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(effects(run), first)
    assert len(n_fits) == 2

    infl.train(run=run.folder, n_models=len(run.complete("design")) + len(run.complete("grouped")) + 2, quiet=True)
    assert np.abs(np.array(effects(infl.open_run(run.folder))) - first).max() > 0
    assert len(n_fits) == 3
    assert len(list((run.folder / "predictors").iterdir())) == 1


def test_it_is_another_fit_once_there_are_features_of_networks_to_look_at(run):
    before = fits._path(run, "combined")
    infl.keep_weights(run, quiet=True)
    assert fits._path(run, "combined") != before


def test_margins_of_documents_are_fitted_beside_what_shares_are_fitted_by(documents_run, tmp_path):
    """Of one document left out they are near the mean over the models of subsets that left it out."""
    run = shutil.copytree(documents_run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("predictors"))
    effects(infl.open_run(run))
    sets = [infl.ForgetSet(str(i), (i,)) for i in range(32)]
    own = [margins[i] for i, margins in enumerate(predict.predict_margins(run, sets, quiet=True))]
    outcomes = documents_run.outcomes("design").load()
    left_out = [outcomes.of("margin")[~outcomes.masks[:, i], i].mean() for i in range(32)]
    assert np.corrcoef(own, left_out)[0, 1] > 0.9
    assert np.abs(np.subtract(own, left_out)).mean() < 0.5 * np.std(left_out)
    kept = sorted(path.name.rpartition("-")[0] for path in (run / "predictors").iterdir())
    assert kept == ["margins-surrogate", "surrogate"]


def test_a_proxy_is_of_the_same_examples_and_its_own_fit_is_kept(run, small_run, documents_run, tmp_path, capsys):
    with pytest.raises(InputError, match=r"other examples \(n = 32, here 60"):
        infl.predict(run, SETS, proxy=documents_run, quiet=True)
    with pytest.raises(InputError, match="not for predictor additive"):
        infl.predict(run, SETS, predictor="additive", proxy=run, quiet=True)
    other = tmp_path / "other"
    shutil.copytree(small_run.folder, other, ignore=shutil.ignore_patterns("predictors"))
    (tmp_path / "sets.json").write_text(json.dumps(SETS))
    assert main(f"predict --run {run.folder} --forget {tmp_path}/sets.json --proxy {other} --quiet".split()) == 0
    assert "predicted by combined with proxy" in capsys.readouterr().out
    assert len(list((other / "predictors").iterdir())) == 1
    assert not (run.folder / "predictors").exists()
