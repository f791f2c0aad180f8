"""Generated data sets on disk, shard by shard."""

import os
import time
import uuid
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.classifier import Classifier
from keras_robust.classifier import weights_sha256
from keras_robust.classifier.fingerprint import class_sha256
from keras_robust.datasets.generation import names
from keras_robust.datasets.generation import records
from keras_robust.datasets.generation.indexed_source import IndexedSource
from keras_robust.datasets.generation.shard_folder import ShardFolder
from keras_robust.datasets.generation.shard_folder import write_json
from keras_robust.datasets.generation.shard_writer import ShardWriter
from keras_robust.datasets.generation.statistics import merged
from keras_robust.datasets.labels import KEPT
from keras_robust.datasets.labels import labels_sha256
from keras_robust.datasets.labels import settle_classes
from keras_robust.transforms.batch import Batch
from keras_robust.transforms.batch import Plan
from keras_robust.transforms.batch import check_made
from keras_robust.transforms.transform import Transform
from keras_robust.utils import array_checks
from keras_robust.utils.environment import installed_versions
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown
from keras_robust.utils.progress import Progress
from keras_robust.utils.threads import BackgroundWriter
from keras_robust.utils.threads import prefetch

# Of the data sets, as TFDS counts: raised where their content changes.
DATA_VERSION = "1.0.0"


class Generation:
    """A generated data set that is being made, shard by shard.

    The shards can be made in any order, by any process; each is a function of
    its number alone.

    Args:
        transform: See `generate`.
        source: See `generate`.
        directory: See `generate`.
        config: See `generate`.
        name: See `generate`.
        split: See `generate`.
        examples: See `generate`.
        dtype: See `generate`.
        file_format: See `generate`.
        shard_size: See `generate`.
        class_names: See `generate`.
    """

    def __init__(
        self,
        transform: Transform,
        source: Any,
        directory: str | os.PathLike[str],
        config: str | None = None,
        name: str | None = None,
        split: str = "train",
        examples: int | None = None,
        dtype: str = "float32",
        file_format: str = "tfrecord",
        shard_size: int = 512,
        class_names: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(transform, Transform):
            raise ValueError(
                "Argument `transform` must be a `Transform`, such as a "
                "Robustifier. "
                f"Received: transform={describe(transform)}"
            )
        if transform.seed is None:
            raise ValueError(
                "The transform must have a seed, so that an interrupted "
                "generation can resume. Received: seed=None"
            )
        for key, value, known in (
            ("dtype", dtype, records.DTYPES),
            ("file_format", file_format, records.FILE_FORMATS),
        ):
            if value not in known:
                raise ValueError(
                    f"Argument `{key}` must be one of {known}. "
                    f"Received: {key}={shown(value)}"
                )
        low, high = transform.value_range
        if dtype == "uint8" and not np.isfinite(high - low).all():
            raise ValueError(
                "Argument `dtype` must be 'float32' where pixels have no "
                f"bounds. Received: value_range={shown(transform.value_range)}"
            )
        if int(shard_size) != shard_size or shard_size < 1:
            raise ValueError(
                "Argument `shard_size` must be an integer >= 1. "
                f"Received: shard_size={shown(shard_size)}"
            )
        self.transform = transform
        self.dtype = dtype
        self.file_format = file_format
        self.shard_size = shard_size
        self.config = config or transform.config_name
        self.name = name or names.default_name(source)
        names.check_names(self.name, self.config, split)
        self.folder = Path(directory) / self.name / self.config / DATA_VERSION
        self.source = IndexedSource.open(
            # Its own: another process may be using the same folder.
            source,
            self.folder / "generation" / f"source-{uuid.uuid4().hex}",
            split=split,
            examples=examples,
            value_range=transform.value_range,
            rank=transform.input_rank,
        )
        try:
            self._settle_labels(class_names)
            self._open_folder(split)
        except BaseException:
            self.close()
            raise
        self._busy = 0.0

    def _settle_labels(self, class_names: Sequence[str] | None) -> None:
        """Decide the classes and the labels of the whole data set."""
        source, transform = self.source, self.transform
        few = source[np.arange(min(len(source), 8))]
        self.rule = transform.label_rule
        self.num_classes, self.class_names = settle_classes(
            labels=source.labels,
            of_transform=transform.count_classes(few),
            width=source.width,
            names=source.class_names if class_names is None else class_names,
            keeps_labels=self.rule == KEPT,
        )
        plan = transform.plan(source.labels, self.num_classes)
        self.plan: Plan = {
            "label": array_checks.check_labels(
                plan["label"], len(source), self.num_classes, "label"
            ),
            "start_id": plan["start_id"],
            # By default the original labels are those of the source.
            "original_label": plan.get("original_label", source.labels),
        }

    def _open_folder(self, split: str) -> None:
        count = -(-len(self.source) // self.shard_size)
        file_names = [
            f"{self.name}-{split}.{self.file_format}-{shard:05d}-of-{count:05d}"
            for shard in range(count)
        ]
        self.shards = ShardFolder(self.folder, file_names, self.configuration())
        self.feature = records.features(
            self.source[np.arange(1)].shape[1:], self.class_names, self.dtype
        )

    def configuration(self) -> dict[str, Any]:
        """All that the bytes depend on, as plain values."""
        config = self.transform.get_config()
        model = self.transform.model
        if model is not None:
            config["model"] = {
                "name": model.name,
                "parameters": model.count_params(),
                "weights_sha256": weights_sha256(model),
                # Of its graph and settings as well.
                "sha256": Classifier.of(model).fingerprint(),
            }
        code = class_sha256(type(self.transform))
        return {
            "name": self.name,
            "config": self.config,
            "transform": type(self.transform).__name__,
            # Of a class of the user, which may change between two calls.
            **({} if code is None else {"code_sha256": code}),
            "arguments": config,
            "source": self.source.description(),
            "class_names": self.class_names,
            "plan": {
                "rule": self.rule,
                "num_classes": self.num_classes,
                "labels_sha256": labels_sha256(self.plan["label"]),
            },
            "dtype": self.dtype,
            "file_format": self.file_format,
            "shard_size": self.shard_size,
            "backend": keras.backend.backend(),
            "versions": installed_versions(),
        }

    def missing(self, worker: int = 0, num_workers: int = 1) -> list[int]:
        """Numbers of the shards that are not finished.

        Args:
            worker: Int, the worker whose shards are meant.
            num_workers: Int >= 1, how many share the shards.
        """
        mine = range(worker, len(self.shards), num_workers)
        return [shard for shard in mine if self.shards.entry(shard) is None]

    def rows(self, shard: int) -> np.ndarray:
        """Rows of the source that a shard holds."""
        start = shard * self.shard_size
        return np.arange(start, min(start + self.shard_size, len(self.source)))

    def make(self, shards: Sequence[int], verbose: int = 1) -> dict[str, Any]:
        """Make the given shards.

        Args:
            shards: Their numbers.
            verbose: 0 for no progress bar.

        Returns:
            Dictionary: `images`, `seconds`, `images_per_second` and `busy`,
            the share of the time in which the transform ran.
        """
        images = sum(len(self.rows(shard)) for shard in shards)
        progress = Progress(images, verbose, f"image, {self.config}")
        start_time, done = time.monotonic(), 0
        self._busy = 0.0
        writer = BackgroundWriter(ShardWriter(self))
        try:
            for shard, rows, inputs in prefetch(self._batches(shards)):
                writer.put((shard, rows, self._transformed(rows, inputs)))
                done += len(rows)
                rate = done / (time.monotonic() - start_time)
                progress.add(len(rows), [("images/s", rate)])
            writer.close()
        finally:
            writer.stop()
            self.shards.discard()
        seconds = time.monotonic() - start_time
        return {
            "images": images,
            "seconds": seconds,
            "images_per_second": images / seconds if images else 0.0,
            "busy": self._busy / seconds if images else 0.0,
        }

    def _batches(
        self, shards: Iterable[int]
    ) -> Iterator[tuple[int, np.ndarray, tuple[np.ndarray, Any]]]:
        """Shard, rows, and images with their start images, batch by batch."""
        size = self.transform.batch_size
        start_id = self.plan["start_id"]
        for shard in shards:
            rows = self.rows(shard)
            for first in range(0, len(rows), size):
                chosen = rows[first : first + size]
                starts = start_id[chosen]
                start = self.source[starts] if starts[0] >= 0 else None
                yield shard, chosen, (self.source[chosen], start)

    def _transformed(
        self, rows: np.ndarray, inputs: tuple[np.ndarray, Any]
    ) -> dict[str, np.ndarray]:
        """New images of a batch, which is filled up to one size."""
        start_time = time.monotonic()
        whole = min(self.transform.batch_size, self.shard_size)
        missing = max(whole - len(rows), 0)
        padded = np.concatenate([rows, rows[:1].repeat(missing)])
        x, start = (
            None
            if images is None
            else np.concatenate([images, images[:1].repeat(missing, 0)])
            for images in inputs
        )
        batch = Batch(
            images=x,
            rows=padded,
            labels=self.plan["label"][padded],
            original_labels=self.source.labels[padded],
            start=start,
        )
        kind = type(self.transform).__name__
        made = {
            key: np.asarray(ops.convert_to_numpy(value))[: len(rows)]
            for key, value in check_made(
                kind, self.transform.make(batch), batch
            ).items()
        }
        self._busy += time.monotonic() - start_time
        return made

    def finalize(self) -> Path:
        """Write the description and TFDS's metadata, once all shards are made.

        Returns:
            Folder of the data set.

        Raises:
            ValueError: If shards are missing.
        """
        entries = [
            self.shards.entry(shard) for shard in range(len(self.shards))
        ]
        finished = [entry for entry in entries if entry is not None]
        if len(finished) < len(entries):
            missing = [i for i, entry in enumerate(entries) if entry is None]
            raise ValueError(
                "All shards must be made before the data set is finalized. "
                f"Received: {len(missing)} of {len(entries)} missing, the "
                f"first {missing[0]}"
            )
        files = [
            {
                "file": name,
                **{k: entry[k] for k in ("sha256", "bytes", "examples")},
            }
            for name, entry in zip(
                self.shards.file_names, finished, strict=True
            )
        ]
        found = merged([entry["statistics"] for entry in finished])
        records.write_metadata(
            folder=self.folder,
            file_format=self.file_format,
            file_names=self.shards.file_names,
            entries=finished,
            feature=self.feature,
            description=self._text(),
        )
        # The last file: where it is, the data set is whole.
        write_json(
            self.folder / "description.json",
            {
                **self.shards.config,
                "value_range": [
                    np.asarray(bound).tolist()
                    for bound in self.transform.value_range
                ],
                "statistics": found,
                "shards": files,
            },
        )
        return self.folder

    def close(self) -> None:
        """Delete the scratch file of the source, if there is one."""
        self.source.close()

    def _text(self) -> str:
        return (
            f"{self.config}: {len(self.source)} images of {self.source.name} "
            f"({self.source.split}) by keras_robust's "
            f"{type(self.transform).__name__}; see description.json. After "
            "Ilyas et al. 2019, arXiv:1905.02175."
        )
