"""What `keras-robust generate`, `inspect` and `import-released` do."""

import os
import shlex
from pathlib import Path
from typing import Any

import keras

from keras_robust import datasets
from keras_robust.datasets import inspection
from keras_robust.datasets.indexed_source import class_count
from keras_robust.datasets.names import check_names
from keras_robust.datasets.names import default_name
from keras_robust.datasets.released import import_released
from keras_robust.features import Mixture
from keras_robust.features import NonRobustifier
from keras_robust.features import Robustifier
from keras_robust.features import Shortcut
from keras_robust.features.relabelling import CONFIG_NAMES

TARGETS = {config: target for target, config in CONFIG_NAMES.items()}


def transform_of(
    kind: str, model: Any, num_classes: int, options: dict[str, Any]
) -> Any:
    """The transform of a command line.

    Args:
        kind: One of `cli.KINDS`.
        model: A Keras model, or `None` for shortcuts.
        num_classes: C.
        options: Dictionary: `norm`, `epsilon`, `step_size`, `steps`, `start`,
            `alpha`, `layer`, `optimizer`, `early_stop`, `batch_size`, `seed`,
            `scaling`.

    Returns:
        A transform for `datasets.generate`.
    """
    shared = {key: options[key] for key in ("batch_size", "seed")}
    ball = {key: options[key] for key in ("norm", "epsilon")}
    step = {"step_size": options["step_size"]}
    if kind.startswith("shortcut_"):
        target = TARGETS[kind.removeprefix("shortcut_")]
        return Shortcut(num_classes, target, **ball, **shared)
    if kind in TARGETS:
        steps = 100 if options["steps"] is None else options["steps"]
        return NonRobustifier(
            model,
            target=TARGETS[kind],
            steps=steps,
            early_stop=options["early_stop"],
            scaling=options["scaling"],
            **ball,
            **step,
            **shared,
        )
    steps = 1000 if options["steps"] is None else options["steps"]
    inversion = Robustifier(
        model,
        steps=steps,
        start=options["start"],
        layer=options["layer"],
        optimizer=options["optimizer"],
        scaling=options["scaling"],
        **step,
        **shared,
    )
    if kind == "mix":
        return Mixture(inversion, options["alpha"])
    return inversion


def generate_saved(
    kind: str,
    source: Any,
    model: Any,
    output: str | int | None,
    scaling: str = "unit",
    split: str = "train",
    examples: int | None = None,
    name: str | None = None,
    config: dict[str, Any] | None = None,
    dtype: str = "float32",
    file_format: str = "tfrecord",
    shard_size: int = 512,
    num_workers: int = 1,
    worker: int = 0,
    finalize: bool = False,
    beam: Any = None,
    verbose: int = 1,
    **options: Any,
) -> Any:
    """Generates a data set with a saved model.

    Args:
        kind: One of `cli.KINDS`.
        source: Name of a TFDS data set, or `"digits"`.
        model: Path of a saved Keras classifier; `None` for shortcuts.
        output: TFDS data folder.
        scaling: `"unit"`, `"byte"` or `"symmetric"`, see `Robustifier`.
        split: As in `datasets.generate`.
        examples: As in `datasets.generate`.
        name: As in `datasets.generate`.
        config: As in `datasets.generate`; `kind` by default.
        dtype: As in `datasets.generate`.
        file_format: As in `datasets.generate`.
        shard_size: As in `datasets.generate`.
        num_workers: As in `datasets.generate`.
        worker: As in `datasets.generate`.
        finalize: Whether to do nothing but finish what workers have made.
        beam: Flags of an Apache Beam pipeline to run it on, as text.
        verbose: 0 for silence.
        **options: See `transform_of`.

    Returns:
        What `datasets.generate` returns, or for `finalize` and `beam` the
        folder.
    """
    if model is None and not kind.startswith("shortcut_"):
        raise ValueError(
            f"The data set {kind!r} needs a source model: --model MODEL.keras. "
            "Received: model=None"
        )
    # Before a model is loaded or a data set is downloaded.
    check_names(name or default_name(source), config or "config", split)
    network = None
    if model is not None:
        network = keras.saving.load_model(model, compile=False)
    # Pixels in [0, 1] are what a model takes that is said nothing of.
    options["scaling"] = None if scaling == "unit" else scaling
    transform = transform_of(kind, network, class_count(source), options)
    shared = {
        "config": config or _config_name(kind, transform),
        "name": name,
        "split": split,
        "examples": examples,
        "dtype": dtype,
        "file_format": file_format,
        "shard_size": shard_size,
    }
    if finalize:
        generation = datasets.Generation(transform, source, output, **shared)
        generation.close()
        with generation.shards.lock():
            generation.shards.sweep()
            folder = generation.finalize()
        print(f"Finished: {folder}")
        return folder
    if beam is not None:
        from keras_robust.datasets.beam import generate_on_beam

        folder = generate_on_beam(
            transform,
            source,
            directory=output,
            pipeline_options=shlex.split(beam),
            **shared,
        )
        print(f"Finished: {folder}")
        return folder
    done = datasets.generate(
        transform,
        source,
        output,
        **shared,
        num_workers=num_workers,
        worker=worker,
        verbose=verbose,
    )
    if verbose:
        print(
            f"{done['images']} images in {done['seconds']:.1f} s, "
            f"{done['images_per_second']:.1f} images/s, transform busy "
            f"{done['busy']:.1%}: {done['directory']}"
        )
    return done


def _config_name(kind, transform):
    return transform.config_name if kind == "mix" else kind


def inspect_generated(directory: str | os.PathLike, verbose: int = 1) -> None:
    """Describes and checks the data sets in a folder.

    Args:
        directory: A data set's folder, or one above.
        verbose: 0 for no tables.

    Raises:
        ValueError: If a check fails.
    """
    wrong = []
    for folder in inspection.find(directory):
        grid = Path(folder) / "images.png"
        try:
            _, checks = inspection.inspect(folder, grid, verbose)
        except Exception as error:
            # A broken set says nothing about the others.
            kind = type(error).__name__
            wrong.append(f"{folder}: cannot be read: {kind}: {error}")
            continue
        wrong += [
            f"{folder}: {key}: {found}"
            for key, (passed, found) in checks.items()
            if not passed
        ]
    if wrong:
        raise ValueError("Checks failed: " + "; ".join(wrong))


def import_saved(
    released: Any, output: str | int | None, verbose: int = 1, **options: Any
) -> None:
    """Turns the released tensors into TFDS data sets.

    Args:
        released: See `import_released`.
        output: TFDS data folder.
        verbose: 0 for silence.
        **options: See `import_released`.
    """
    made = import_released(released, output, verbose, **options)
    for config, folder in made.items():
        if verbose:
            print(f"{config}: {folder}")
