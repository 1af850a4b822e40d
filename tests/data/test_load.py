"""`load` knows each source by its form, says what it expects where it knows none, and costs nothing to import.

The command line hands it whatever a person typed. It is imported on every command, `--help` included, so what is
heavy waits until a source needs it. Results quoted in the docs name digits by id: they stand for the same pictures only if
the split is one fixed permutation of scikit-learn's order, and if no digit is both trained on and held out.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import infl.data
from infl.data import load, subset
from infl.records import InputError


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digit", "unknown source 'digit': .*; did you mean 'digits'"),
        ("idx", "did you mean 'idx:FOLDER'"),
        ("IDX:/somewhere", "did you mean 'idx:/somewhere'"),
        ("fashion_mnist", "did you mean 'idx:FOLDER', .* of fashion-mnist"),
        ("cifar-10", "did you mean 'tfds:cifar10'"),
        (
            "imagenet",
            r"unknown source 'imagenet': expected `digits`, `verses`, `idx:FOLDER` .*, or a path that ends in `\.npz`$",
        ),
        ("idx:", "expected a folder after the colon"),
        ("nowhere.npz", "nowhere.npz: expected an .npz file, found nothing"),
    ],
)
def test_what_is_no_source_gets_the_forms_and_a_guess(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(source)


def test_a_path_without_its_form_is_told_which(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"write 'idx:{tmp_path}'"):
        load(str(tmp_path))
    (tmp_path / "data.npy").touch()
    with pytest.raises(InputError, match=r"save the arrays of this file with `np\.savez`"):
        load(str(tmp_path / "data.npy"))


def test_a_path_object_and_a_home_folder_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "toy.npz", x_train=np.eye(4), y_train=[0, 1, 0, 1], x_test=np.eye(4), y_test=[0, 1, 0, 1])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(tmp_path / "toy.npz").source == load("~/toy.npz").source == str(tmp_path / "toy.npz")


def test_numbers_and_seed_choose_a_subset() -> None:
    part, by_hand = load("digits", n_train=100, n_held_out=50, seed=3), subset(load("digits"), 100, 50, 3)
    assert part.fingerprint() == by_hand.fingerprint()


def test_digits_are_where_their_ids_say_in_one_fixed_split() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    dataset = load("digits")
    ids = np.concatenate([dataset.train_ids, dataset.held_out_ids])
    np.testing.assert_array_equal(dataset.images * 16, pixels[ids].reshape(-1, 8, 8))
    np.testing.assert_array_equal(dataset.labels, labels[ids])
    assert sorted(ids) == list(range(1797))
    # These numbers must never change: published ids refer to them.
    assert dataset.train_ids[:5].tolist() == [1081, 1707, 927, 713, 262]
    assert dataset.held_out_ids[-5:].tolist() == [835, 1216, 1653, 559, 684]
    assert (dataset.n_train, dataset.images.dtype, dataset.images.max()) == (1000, np.float32, 1)
    assert (dataset.name, dataset.source, dataset.class_names) == ("digits", "digits", tuple("0123456789"))


def test_importing_it_imports_nothing_heavy() -> None:
    # infl itself is replaced by an empty package, so that only infl.data is judged.
    code = """if True:
        import sys, types
        infl = types.ModuleType("infl")
        infl.__path__ = [sys.argv[1]]
        sys.modules["infl"] = infl
        import infl.data
        heavy = {"sklearn", "scipy", "jax", "tensorstore", "matplotlib", "tensorflow_datasets", "datasets", "PIL"}
        print(sorted(heavy & set(sys.modules)))
    """
    folder = Path(infl.data.__file__).parents[1]
    answer = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
