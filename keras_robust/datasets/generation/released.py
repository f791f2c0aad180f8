"""The data sets that Ilyas et al. released, as TFDS data sets."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust.datasets.generation.generate import generate
from keras_robust.datasets.generation.indexed_source import IndexedSource
from keras_robust.datasets.labels import KEPT
from keras_robust.datasets.sources import CIFAR10_CLASSES
from keras_robust.transforms.batch import Batch
from keras_robust.transforms.batch import Made
from keras_robust.transforms.batch import Plan
from keras_robust.transforms.transform import Transform

# MadryLab/constructed-datasets: folders as in the archive, as in its README.
FOLDERS = {
    "robust": ("d_robust_CIFAR", "robust_CIFAR"),
    "non_robust": ("d_non_robust_CIFAR", "non_robust_CIFAR"),
    "rand": ("drand_CIFAR",),
    "det": ("ddet_CIFAR",),
}


class ReleasedTensors(Transform):
    """A transform for `generate` that returns released images unchanged.

    Args:
        config_name: `"robust"`, `"non_robust"`, `"rand"` or `"det"`.
    """

    def __init__(self, config_name: str) -> None:
        # Nothing is drawn.
        super().__init__(batch_size=512, seed=0)
        self._config_name = config_name

    @property
    def config_name(self) -> str:
        """Name of the released set."""
        return self._config_name

    @property
    def label_rule(self) -> str | None:
        """How the labels follow from the original ones."""
        rules = {"rand": "random", "det": "deterministic"}
        return rules.get(self.config_name, KEPT)

    def plan(self, labels: Any, num_classes: int) -> Plan:
        """Labels as released, and the original ones as far as known."""
        labels = np.asarray(labels)
        unknown = np.full(len(labels), -1)
        original = {"rand": unknown, "det": (labels - 1) % num_classes}
        return {
            "label": labels,
            "original_label": original.get(self.config_name, labels),
            "start_id": unknown,
        }

    def make(self, batch: Batch) -> Made:
        """Return the images; their distance is not known and stored as -1."""
        unknown = np.full(len(batch), -1.0, "float32")
        return {"x": batch.images, "distance": unknown, "success": unknown > 0}


def import_released(
    released: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    verbose: int = 1,
    **options: Any,
) -> dict[str, Path]:
    """Turn the released torch files into TFDS data sets.

    `CIFAR_ims` and `CIFAR_lab` are lists of tensors, `(n, 3, 32, 32)` in
    [0, 1] and `(n,)`.

    Args:
        released: Folder that holds `d_robust_CIFAR/`, `d_non_robust_CIFAR/`,
            `drand_CIFAR/`, `ddet_CIFAR/`, or some of them.
        directory: TFDS data folder; the sets appear in it as
            `released_cifar10/robust`, `non_robust`, `rand`, `det`.
        verbose: 0 for no progress bars.
        **options: `dtype`, `file_format`, `shard_size` of `generate`.

    Returns:
        Dictionary of folders by configuration.

    Raises:
        FileNotFoundError: If none of the four is there.
        ImportError: If PyTorch, which reads the files, is not installed.
    """
    made: dict[str, Path] = {}
    for config, names in FOLDERS.items():
        for name in names:
            folder = Path(released) / name
            if config in made or not (folder / "CIFAR_ims").exists():
                continue
            images = _read(folder / "CIFAR_ims")
            labels = _read(folder / "CIFAR_lab")
            source = IndexedSource(
                np.moveaxis(images, 1, -1),
                labels,
                class_names=CIFAR10_CLASSES,
                name=name,
                version="MadryLab/constructed-datasets",
            )
            made[config] = generate(
                ReleasedTensors(config),
                source,
                directory,
                name="released_cifar10",
                verbose=verbose,
                **options,
            )["directory"]
    if not made:
        wanted = ", ".join(names[0] for names in FOLDERS.values())
        raise FileNotFoundError(
            f"The folder must hold {wanted}, or some of them, each with "
            f"CIFAR_ims and CIFAR_lab. Received: {str(released)!r}"
        )
    return made


def _read(path: Path) -> np.ndarray:
    import torch

    value = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(value, (list, tuple)):
        value = torch.cat(list(value))
    return value.numpy()
