"""Generated data sets by one call."""

import os
from collections.abc import Sequence
from typing import Any

from keras_robust.datasets.generation.generation import Generation
from keras_robust.transforms.transform import Transform


def generate(
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
    num_workers: int = 1,
    worker: int = 0,
    verbose: int = 1,
    class_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write a generated data set that TFDS reads without this package.

    It appears as `directory/name/config/1.0.0`, one record per source image,
    in source order: `id`, `image`, `label`, `original_label`, `start_id` (row
    of the start image, -1 for none), `distance` and `success` as the
    transform returns them. Interrupted at any moment, the same call resumes
    after the last finished shard, and the result is byte for byte that of an
    uninterrupted one. Images are read and records written while the next
    batch computes; memory does not grow with the number of images.

    Args:
        transform: A `Transform` with a seed, such as `Robustifier`,
            `NonRobustifier`, `Shortcut` or `Mixture`.
        source: Name of a TFDS image classification set, or `"digits"`;
            `(x, y)` arrays; or a `tf.data.Dataset`, a generator or another
            iterable of `(x, y)` batches, which is first written to a scratch
            file, as sets of TFDS are; one that does not end must come with
            `examples`. Images are floats in the transform's `value_range`, or
            uint8, then scaled to it; labels are integers `(N,)` or `(N, 1)`,
            or one-hot `(N, C)`.
        directory: TFDS data folder.
        config: Name of the data set's configuration; by default the
            transform's: `"robust"`, `"rand"`, `"det"`, `"other"`, ...
        name: Name of the data set, in lower case as TFDS requires;
            `"constructed_"` and the source's name by default.
        split: Split of the source, and name of the split that is written.
        examples: Int, how many images from the first on; `None` for all.
        dtype: `"float32"`, exact; or `"uint8"`: what an image file stores, as
            in the released sets.
        file_format: `"tfrecord"`, or `"array_record"` for random access with
            `tfds.data_source`.
        shard_size: Int >= 1, images per file: what an interruption can cost.
        num_workers: Int >= 1, how many processes share the shards, each with
            a fixed slice. With more than one, finish by
            `Generation(...).finalize()` or `keras-robust generate --finalize`.
        worker: Int in [0, num_workers), which of them this process is.
        verbose: 0 for no progress bar.
        class_names: Names of the classes; by default those of the source, or
            else the numbers of the classes of the transform's model, whichever
            of them occur.

    Returns:
        Dictionary: `directory` of the data set, `finished`, and of the work
        of this call `images`, `seconds`, `images_per_second` and `busy`, the
        share of the time in which the transform ran.

    Raises:
        ValueError: If the folder belongs to another configuration, TFDS could
            not read the names, or source and transform do not fit.
        RuntimeError: If another process uses the folder.
        OSError: If the disk is full; finished shards are intact.

    Example:

    ```python
    to_rand = keras_robust.NonRobustifier(standard, target="random", seed=0)
    keras_robust.datasets.generate(to_rand, "cifar10", "data")
    tfds.load("constructed_cifar10/rand", data_dir="data", as_supervised=True)
    ```
    """
    if not 0 <= worker < num_workers:
        raise ValueError(
            "Argument `worker` must lie in [0, num_workers). "
            f"Received: worker={worker}, num_workers={num_workers}"
        )
    generation = Generation(
        transform,
        source,
        directory,
        config=config,
        name=name,
        split=split,
        examples=examples,
        dtype=dtype,
        file_format=file_format,
        shard_size=shard_size,
        class_names=class_names,
    )
    alone = num_workers == 1
    owner = None if alone else f"{worker} of {num_workers}"
    try:
        with generation.shards.lock(owner):
            if alone:
                generation.shards.remove_leftovers(
                    keep=generation.source.scratch
                )
            done = generation.make(
                generation.missing(worker, num_workers), verbose=verbose
            )
            if alone:
                generation.finalize()
    finally:
        generation.close()
    return {"directory": generation.folder, "finished": alone, **done}
