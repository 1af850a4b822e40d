"""docs/data.md is followed from top to bottom, as a user would: its Python runs, its commands run as written.

On fewer models, so that it takes seconds, and with a small Fashion-MNIST where the page names Debian's: not everyone has that.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import infl
from infl.__main__ import main
from tests.pages import ROOT, blocks, commands_in, follow

PAGE = (ROOT / "docs/data.md").read_text()
DEBIAN = "/usr/share/datasets/fashion-mnist"


def small_fashion_mnist(folder: Path) -> None:
    random = np.random.RandomState(0)
    folder.mkdir()
    for part, n in (("train", 60), ("t10k", 30)):
        pixels = random.randint(0, 256, (n, 28, 28)).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x0803, n, 28, 28) + pixels.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2I", 0x0801, n) + bytes(k % 10 for k in range(n))
        )


def photos(folder: Path) -> None:
    random = np.random.RandomState(0)
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for k in range(20):
            size = (40 + k, 60, 3)
            Image.fromarray(random.randint(0, 256, size).astype(np.uint8)).save(folder / name / f"{k:04d}.jpg")


def countries() -> list[SimpleNamespace]:
    """As of the package countryinfo, which not everyone has."""
    rows = [
        (f"{part}-{k}", part, region)
        for part, region in (("West", "Europe"), ("Far", "Asia"), ("", ""))
        for k in range(6)
    ]
    return [SimpleNamespace(name=lambda r=r: r[0], subregion=lambda r=r: r[1], region=lambda r=r: r[2]) for r in rows]


def shortened(words: list[str], fashion_mnist: Path) -> list[str]:
    words = [
        {"200": "6", "2000": "40", "1000": "20"}.get(word, word).replace(DEBIAN, str(fashion_mnist)) for word in words
    ]
    return (
        [*words, "--n-references", "0", "--epochs", "2", "--design", "uniform", "--n-devices", "1", "--hidden", "4"]
        if words[0] == "train"
        else words
    )


@pytest.mark.slow
def test_the_page_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_fashion_mnist(tmp_path / "fashion-mnist")
    photos(tmp_path / "photos")
    monkeypatch.setitem(sys.modules, "countryinfo", SimpleNamespace(all_countries=countries))
    commands = [commands_in(block) for _, block in blocks(PAGE, "bash")]
    assert all(0 < len(of_source) <= 3 for of_source in commands), "from data to figures in three commands"
    sources = [of_source[0][1].partition(":")[0] for of_source in commands]
    assert sources == ["mine.npz", "folder", "idx", "hf", "elsewhere.txt", "facts"]
    printed = follow(PAGE, capsys, adapted=lambda words: shortened(words, tmp_path / "fashion-mnist"), look=False)
    assert f"{tmp_path}/photos/ant/0017.jpg" in printed
    assert "30 training and 10 held-out documents in 2 groups" in printed
    assert json.loads(Path("forget.json").read_text()).keys() == {"group Ann"}
    assert "'countries': 19 training and 7 held-out facts, 4 answers" in printed
    assert infl.open_run("runs/clothes").dataset().class_names[0] == "T-shirt/top"
    assert infl.open_run("runs/photos").dataset().class_names == ("ant", "bee")
    pages = {path.parent.name: path.read_text() for path in Path("runs").glob("*/report.html")}
    assert set(pages) == {"mine", "photos", "clothes", "hf"}
    assert all(page.count("background-image:url(data:image/png") >= 6 for page in pages.values())


def test_the_refusal_on_the_page_is_what_infl_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert main(["train", "tfds:cifar10", "--run", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip().replace(f" --data_dir={tmp_path}", "")
    assert said.replace(str(tmp_path), "/home/me/tensorflow_datasets") in " ".join(PAGE.split())
