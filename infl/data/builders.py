"""infl's own data sets for TensorFlow Datasets, which are prepared and read without TensorFlow.

Importing this module registers `infl_digits` and `infl_fashion_mnist` with tensorflow-datasets, for `tfds.builder` and
`tfds.data_source` too. Three choices make TensorFlow superfluous: pixels are `Tensor` features, since encoding an `Image`
calls it; files are array_record, since the default format, tfrecord, calls it; and nothing is downloaded. Examples stay in
the order of their source (TFDS would shuffle them), and `index` is their position in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from infl.data import digits, idx
from infl.records import Array, Dataset, InputError

FASHION_MNIST_FOLDER = "INFL_FASHION_MNIST_DIR"
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"


class _InOrder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes the examples of a `Dataset` as splits `train` and `test`."""

    def _generated(self) -> Dataset:
        raise NotImplementedError

    @classmethod
    def check(cls, info: Any) -> None:
        """Check that what was prepared once is what is meant now; an `InputError` where it is not."""

    def _described(self, text: str, shape: tuple[int, ...], dtype: Any, class_names: tuple[str, ...]) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=text,
            features=tfds.features.FeaturesDict(
                {
                    "index": tfds.features.Scalar(dtype=np.int64),
                    "image": tfds.features.Tensor(shape=shape, dtype=dtype),
                    "label": tfds.features.ClassLabel(names=class_names),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        dataset = self._generated()
        metadata: Any = self.info.metadata
        metadata["made from"] = dataset.source
        return {
            "train": self._generate_examples(dataset.x_train, dataset.y_train, dataset.train_ids),
            "test": self._generate_examples(dataset.x_held_out, dataset.y_held_out, dataset.held_out_ids),
        }

    def _generate_examples(self, images: Array, labels: Array, ids: Array) -> Iterator[tuple[int, dict[str, Any]]]:
        for position, (image, label, index) in enumerate(zip(images, labels, ids, strict=True)):
            yield position, {"index": int(index), "image": image, "label": int(label)}


class InflDigits(_InOrder):
    """scikit-learn's digits, 8x8 float32 in 0..1, as the source `digits` has them."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        text = "1,797 handwritten digits of scikit-learn: 1,000 to train on, 797 held out."
        return self._described(text, (8, 8), np.float32, tuple("0123456789"))

    def _generated(self) -> Dataset:
        return digits.load()


class InflFashionMnist(_InOrder):
    """Fashion-MNIST, 28x28 uint8, from its four idx files: those of Debian's package, or in $INFL_FASHION_MNIST_DIR."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        text = "Fashion-MNIST: 70,000 pictures of clothes, 10,000 of them held out, from a folder of idx files."
        return self._described(text, (28, 28), np.uint8, idx.FASHION_MNIST)

    def _generated(self) -> Dataset:
        folder = os.environ.get(FASHION_MNIST_FOLDER)
        if not folder and not os.path.isdir(DEBIAN_FOLDER):
            raise InputError(
                f"infl_fashion_mnist is prepared from the four idx files of Fashion-MNIST, and {DEBIAN_FOLDER} is not there: "
                f"apt-get install dataset-fashion-mnist, or name a folder that holds them in ${FASHION_MNIST_FOLDER}"
            )
        return idx.load(folder or DEBIAN_FOLDER)

    @classmethod
    def check(cls, info: Any) -> None:
        """Refuse what was made from another folder than is named now."""
        folder, made_from = os.environ.get(FASHION_MNIST_FOLDER), info.metadata.get("made from")
        if folder and made_from and made_from != f"idx:{os.path.abspath(os.path.expanduser(folder))}":
            raise InputError(
                f"{info.data_dir} was prepared from {made_from}, and ${FASHION_MNIST_FOLDER} names {folder} now; delete that "
                "folder to prepare it anew, or unset the variable"
            )


OWN = {InflDigits.name: InflDigits, InflFashionMnist.name: InflFashionMnist}
