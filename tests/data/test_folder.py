"""A folder of pictures comes in picture for picture, in the order of its sorted paths, or is refused by the file's name.

Pictures are made of known pixels here and saved by Pillow in a format without loss, so that every pixel can be asked for. The
order is what ids mean: it may depend on names alone, not on the order in which a disk lists them.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infl.data import load
from infl.data.folder import files, ids_of_files
from infl.records import InputError

CLASSES = ("ant", "bee", "cat")


def picture(k: int, shape: tuple[int, ...] = (5, 4, 3)) -> np.ndarray:
    return np.random.RandomState(k).randint(0, 256, shape).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(folder: Path, n: int = 4, *, first: int = 0, shape: tuple[int, ...] = (5, 4, 3)) -> Path:
    """n pictures of each class, written last to first; picture k of class c holds the pixels of number first + 10 c + k."""
    for label, name in reversed(list(enumerate(CLASSES))):
        for k in reversed(range(n)):
            save(folder / name / f"{k}.png", picture(first + 10 * label + k, shape))
    return folder


def test_train_and_test_come_in_as_they_are_sorted(tmp_path: Path) -> None:
    write(tmp_path / "insects" / "train", 4)
    write(tmp_path / "insects" / "test", 2, first=100)
    dataset = load(f"folder:{tmp_path / 'insects'}")
    np.testing.assert_array_equal(dataset.x_train, [picture(10 * c + k) for c in range(3) for k in range(4)])
    np.testing.assert_array_equal(dataset.x_held_out, [picture(100 + 10 * c + k) for c in range(3) for k in range(2)])
    assert dataset.y_train.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert dataset.y_held_out.tolist() == [0, 0, 1, 1, 2, 2]
    assert (dataset.train_ids.tolist(), dataset.held_out_ids.tolist()) == (list(range(12)), list(range(6)))
    assert (dataset.name, dataset.class_names) == ("insects", CLASSES)
    shutil.rmtree(tmp_path / "insects" / "test" / "bee")
    assert load(f"folder:{tmp_path / 'insects'}").y_held_out.tolist() == [0, 0, 2, 2]


def everything(folder: Path) -> np.ndarray:
    """All pictures of a folder of classes, in their order."""
    dataset = load(f"folder:{folder}:0.5")
    pixels = np.zeros((dataset.n_columns, *dataset.x_train.shape[1:]), np.uint8)
    pixels[dataset.train_ids], pixels[dataset.held_out_ids] = dataset.x_train, dataset.x_held_out
    return pixels


def test_names_sort_by_code_points_and_what_systems_leave_is_skipped(tmp_path: Path) -> None:
    for k, name in enumerate(["10.png", "9.png", "B.png", "a/z.PNG", "b.png"]):
        save(tmp_path / "x" / name, picture(k))
        save(tmp_path / "y" / name, picture(10 + k))
    hidden = [
        ".git",
        "x/.ipynb_checkpoints",
        "x/a/.thumbnails",
        "__MACOSX/x",
        "y/a/__MACOSX",
        "y/@eaDir/b.png",
        "lost+found",
    ]
    for folder in hidden:
        save(tmp_path / folder / "9-checkpoint.png", picture(0))
    for stray in ("x/.hidden.png", "x/._9.png", "x/Thumbs.db", "y/desktop.ini", "y/a/.DS_Store", "readme.txt"):
        (tmp_path / stray).write_bytes(b"no picture")
    np.testing.assert_array_equal(everything(tmp_path), [picture(k) for k in (*range(5), *range(10, 15))])


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_names_of_classes_can_be_written_whatever_the_bytes_of_their_folders(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 come from other systems, and are distinct names all the same."""
    for name in ("猫".encode(), b"caf\xe9", b"caf\xe8"):
        for k in range(2):
            save(tmp_path / os.fsdecode(name) / f"{k}.png", picture(k))
    assert load(f"folder:{tmp_path}:0.5").class_names == ("caf\\xe8", "caf\\xe9", "猫")


def test_other_files_are_counted_by_their_endings(tmp_path: Path) -> None:
    write(tmp_path, 2)
    for stray in ("ant/a.heic", "ant/deep/b.HEIC", "bee/notes.txt", "cat/0001", "cat/data.h5"):
        (tmp_path / stray).parent.mkdir(exist_ok=True)
        (tmp_path / stray).write_bytes(b"no picture")
    save(tmp_path / "loose.png", picture(0))
    told = r"not read: 2 .heic, 1 .png beside them, 1 .txt, 1 without an ending, 1 .h5; expected pictures"
    with pytest.warns(UserWarning, match=told):
        assert len(everything(tmp_path)) == 6
    for path in (tmp_path / "ant").glob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match="ant: expected pictures .PNG, JPEG ...., got 2 .heic; add some"):
        load(f"folder:{tmp_path}:0.5")


def test_links_are_followed_and_no_folder_is_read_twice(tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    save(tmp_path / "elsewhere" / "more" / "z.png", picture(5))
    (tmp_path / "a" / "ant" / "linked").symlink_to("../../elsewhere")
    (tmp_path / "a" / "ant" / "same").symlink_to("linked/more")
    (tmp_path / "a" / "ant" / "linked" / "round").symlink_to("..")
    (tmp_path / "a" / "bee" / "up").symlink_to("..")
    (tmp_path / "a" / "dog").symlink_to("../elsewhere/more")
    np.testing.assert_array_equal(everything(tmp_path / "a"), [picture(k) for k in (0, 5, 10, 20, 5)])


@pytest.mark.parametrize(("fraction", "held_out"), [("0.25", 2), ("0.01", 1), (".99", 7)])
def test_a_fraction_of_each_class_is_drawn_once_and_for_all(tmp_path: Path, fraction: str, held_out: int) -> None:
    """And ids lead back to the files, also those of a part of the examples."""
    write(tmp_path, 8)
    dataset = load(f"folder:{tmp_path}:{fraction}")
    assert np.bincount(dataset.y_held_out).tolist() == [held_out] * 3
    assert sorted([*dataset.train_ids, *dataset.held_out_ids]) == list(range(24))
    # Not the first ones of each class, which may well be alike.
    assert fraction == ".99" or dataset.held_out_ids.tolist() != [8 * c + k for c in range(3) for k in range(held_out)]
    assert load(dataset.source).fingerprint() == dataset.fingerprint()
    part = load(dataset.source, n_train=3, n_held_out=2, seed=1) if fraction == "0.25" else dataset
    sides = ((part.x_train, part.train_ids), (part.x_held_out, part.held_out_ids))
    for (examples, ids), paths in zip(sides, files(part.source), strict=True):
        for pixels, position in zip(examples, ids, strict=True):
            np.testing.assert_array_equal(pixels, picture(10 * (position // 8) + position % 8))
            np.testing.assert_array_equal(pixels, Image.open(paths[position]))


def test_the_held_out_folder_may_have_any_of_its_names(tmp_path: Path) -> None:
    write(tmp_path / "train", 2)
    write(tmp_path / "zz other", 1)
    for name in ("val", "valid", "validation", "held_out", "Testing"):  # the later ones come first
        write(tmp_path / name, 1, first=len(name))
        with pytest.warns(UserWarning, match="not read: .*1 folder zz other"):
            np.testing.assert_array_equal(load(f"folder:{tmp_path}").x_held_out[0], picture(len(name)))
    (tmp_path / "train").rename(tmp_path / "TRAINING")
    with pytest.warns(UserWarning, match="not read: 1 folder held_out, 1 folder val, .*1 folder zz other"):
        assert len(load(f"folder:{tmp_path}").x_held_out) == 3


def test_the_source_loads_again_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a:b", 4)
    monkeypatch.chdir(tmp_path)
    first = load("folder:a:b:0.25:3x2")
    assert first.source == f"folder:{tmp_path}/a:b:0.25:3x2"
    monkeypatch.chdir("/")
    assert load(first.source).fingerprint() == first.fingerprint()


def test_grey_pictures_stay_grey_and_mixed_ones_become_colour(tmp_path: Path) -> None:
    write(tmp_path / "grey", 3, shape=(5, 4))
    grey = load(f"folder:{tmp_path / 'grey'}:0.3")
    assert grey.x_train.shape == (6, 5, 4)
    np.testing.assert_array_equal(grey.x_train[0], picture(int(grey.train_ids[0]), (5, 4)))
    save(tmp_path / "grey" / "ant" / "2.png", picture(2))
    mixed = load(f"folder:{tmp_path / 'grey'}:0.3")
    assert mixed.x_train.shape == (6, 5, 4, 3)
    for pixels, held in ((mixed.x_train, mixed.train_ids), (mixed.x_held_out, mixed.held_out_ids)):
        for one, position in zip(pixels, held, strict=True):
            k = 10 * (position // 3) + position % 3
            np.testing.assert_array_equal(one, picture(k) if k == 2 else np.repeat(picture(k, (5, 4, 1)), 3, axis=2))


def test_what_pillow_reads_is_read(tmp_path: Path) -> None:
    """Flat colours survive all of them, JPEG and its relatives within their rounding."""
    endings = ["png", "bmp", "gif", "ppm", "TIF", "tga", "webp", "jfif", "jpe", "JPEG", "jp2"]
    for c in range(2):
        for k, ending in enumerate(endings):
            path = tmp_path / "ab"[c] / f"{k:02}.{ending}"
            path.parent.mkdir(exist_ok=True)
            image = Image.new("RGB", (16, 16), (20 * k, 100 * c, 200))
            (image.quantize(2) if ending == "png" else image.convert("RGBA") if ending == "bmp" else image).save(path)
    wanted = [[20 * k, 100 * c, 200] for c in range(2) for k in range(len(endings))]
    off = np.abs(everything(tmp_path).astype(int) - np.array(wanted)[:, None, None]).max(axis=(1, 2, 3))
    assert off.max() <= 3
    assert off[[k for k in range(22) if k % 11 < 6]].max() == 0


def test_a_size_cuts_around_the_middle_and_scales(tmp_path: Path) -> None:
    """Left half black, right half white: the cut is central, so each half of the result has its one colour."""
    for name in ("a/0", "a/1", "b/0", "b/1"):
        pixels = np.zeros((10, 40 if name < "b" else 12, 3), np.uint8)
        pixels[:, pixels.shape[1] // 2 :] = 255
        save(tmp_path / f"{name}.png", pixels)
    dataset = load(f"folder:{tmp_path}:0.5:10x4")
    assert dataset.x_train.shape == (2, 10, 4, 3)
    assert (dataset.x_train[:, :, :2] == 0).all()
    assert (dataset.x_train[:, :, 2:] == 255).all()
    half = load(f"folder:{tmp_path}:0.5:5x2").x_train
    assert half.shape == (2, 5, 2, 3)
    assert (half[:, :, 0].max(), half[:, :, 1].min()) < (128, 256)
    assert half[:, :, 1].min() > 128


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-30]), "expected a picture .* cannot be read"),
    "text": (lambda path: path.write_text("no picture"), "expected a picture .* cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "expected a picture .* cannot be read"),
    "larger": (
        lambda path: save(path, picture(0, (5, 6, 3))),
        "one size, got 5 x 6 pixels, and 5 x 4 pixels for .*ant/0.png; scale them, or ask for a size as in :32x32",
    ),
    "16 bits": (lambda path: save(path, np.zeros((5, 4), np.uint16)), "8 bits a channel, got mode I;16"),
    "transparent": (lambda path: save(path, np.full((5, 4, 4), 128, np.uint8)), "without transparent pixels"),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD)
def test_a_bad_picture_is_named(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    write(tmp_path)
    damage(tmp_path / "bee" / "3.png")
    with pytest.raises(InputError, match=f"bee/3.png: .*{message}") as refusal:
        load(f"folder:{tmp_path}:0.25")
    assert "\n" not in str(refusal.value)


def test_a_folder_laid_out_otherwise_is_told_how(tmp_path: Path) -> None:
    def refused(message: str, source: str = f"folder:{tmp_path}") -> None:
        with pytest.raises(InputError, match=message) as refusal:
            load(source)
        assert "\n" not in str(refusal.value)

    refused("expected a folder after the colon", "folder:")
    refused("nowhere: expected a folder with one subfolder a class, got .*; check", f"folder:{tmp_path}/nowhere:0.2")
    refused(r"expected folders train and test \(or held_out, .* as in folder:.*:0.2; got none")
    write(tmp_path, 2)
    refused("or one subfolder a class and a fraction to hold out, as in folder:.*:0.2; got ant, bee, cat")
    refused("fraction of the examples to hold out, above 0 and below 1, got 1", f"folder:{tmp_path}:1")
    (tmp_path / "dog").mkdir()
    refused("dog: expected pictures", f"folder:{tmp_path}:0.5")
    write(tmp_path / "two" / "train", 2)
    refused("got train", f"folder:{tmp_path}/two")
    write(tmp_path / "two" / "test", 2)
    refused("holds train and test: leave the fraction", f"folder:{tmp_path}/two:0.2")
    os.rename(tmp_path / "two" / "test" / "bee", tmp_path / "two" / "test" / "wasp")
    refused("test: expected no classes besides those to train on, got wasp", f"folder:{tmp_path}/two")
    save(tmp_path / "one" / "alone" / "0.png", picture(0))
    save(tmp_path / "one" / "alone" / "1.png", picture(0))
    refused("at least 2 classes, got 1", f"folder:{tmp_path}/one:0.5")


@pytest.mark.parametrize("size", ["", ":3x2"])
def test_examples_are_found_by_the_names_of_their_files(tmp_path: Path, size: str) -> None:
    """By as much of a path as tells one apart; another picture under an old name is no longer that example."""
    write(tmp_path, 4)
    save(tmp_path / "ant" / "deep" / "only grey.png", picture(7, (5, 4)))
    dataset = load(f"folder:{tmp_path}:0.25{size}", n_train=9, seed=1)
    paths = [files(dataset.source)[0][position] for position in dataset.train_ids]
    for i, path in enumerate(paths):
        for name in (str(path), f"./{path.parent.name}/{path.name}", f"{path.parent.name}\\{path.name}"):
            assert ids_of_files(dataset, [name]) == [i]
    known = [path.parent.name + "/" + path.name for path in paths]
    assert ids_of_files(dataset, known[::-1]) == list(range(9))[::-1]
    held_out = files(dataset.source)[1][dataset.held_out_ids[0]]
    for name, said in (
        (str(held_out), "that of none"),
        ("ant/99.png", "that of none"),
        (paths[0].name, "that of [2-9]|none"),
    ):
        with pytest.raises(InputError, match=f"got '.*{Path(name).name}', which is {said}"):
            ids_of_files(dataset, [name])
    save(paths[0], picture(99))
    with pytest.raises(InputError, match="its pictures have changed since they were loaded"):
        ids_of_files(dataset, known[:1])
    with pytest.raises(InputError, match="expected ids, got '0.png': examples of a folder: alone have file names"):
        ids_of_files(replace(dataset, source=""), ["0.png"])
