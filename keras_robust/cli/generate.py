"""`keras-robust generate`: makes data sets with a saved model."""

import argparse
import pathlib
import shlex
from typing import TYPE_CHECKING
from typing import Any

from keras_robust.cli.arguments import add_storage_arguments
from keras_robust.cli.arguments import add_verbose_argument
from keras_robust.cli.arguments import positive
from keras_robust.cli.arguments import radius
from keras_robust.cli.data import add_data_arguments
from keras_robust.cli.data import classes_of
from keras_robust.cli.data import load_network
from keras_robust.cli.data import read_for
from keras_robust.cli.data import shape_of

if TYPE_CHECKING:
    from keras_robust.datasets import DataSpecification

HELP = "make D_R, D_NR, D_rand, D_det, D_other or a control of them"
# Options of transforms, by the kinds that have them.
_PERTURBED = {"norm": "l2", "epsilon": 0.5}
_RELABELLED = {
    **_PERTURBED,
    "step_size": "auto",
    "steps": 100,
    "early_stop": False,
}
_INVERTED = {
    "step_size": "auto",
    "steps": 1000,
    "start": "image",
    "layer": None,
    "optimizer": "gradient_descent",
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "robust": _INVERTED,
    "non_robust": _INVERTED,
    "rand": _RELABELLED,
    "det": _RELABELLED,
    "other": _RELABELLED,
    "mix": {**_INVERTED, "alpha": 0.9},
    "shortcut_rand": _PERTURBED,
    "shortcut_det": _PERTURBED,
    "shortcut_other": _PERTURBED,
}
KINDS = tuple(_DEFAULTS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "kind",
        choices=KINDS,
        help="robust: D_R, of a robust model; non_robust: D_NR, of a standard "
        "one; rand, det, other: D_rand, D_det, D_other; mix: between D_R and "
        "the source; shortcut_...: their controls, of no model",
    )
    add_data_arguments(parser, "--source", what="the images that are changed")
    parser.add_argument("--model", help="a saved Keras model, MODEL.keras")
    parser.add_argument(
        "--scaling",
        choices=("unit", "byte", "symmetric"),
        default="unit",
        help="pixels that the model takes: [0, 1], [0, 255], [-1, 1]",
    )
    parser.add_argument(
        "--split",
        default="train",
        help="split of the data, and name of the split that is written",
    )
    parser.add_argument(
        "--examples", type=positive, help="only the first N images", metavar="N"
    )
    _add_transform_arguments(parser)
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=128,
        help="images made at once",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all random choices"
    )
    parser.add_argument("--name", help="default: constructed_DATA")
    parser.add_argument("--config", help="default: the kind")
    add_storage_arguments(parser)
    _add_worker_arguments(parser)
    add_verbose_argument(parser)


def _add_transform_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of transforms; those that are not given are `None`."""
    parser.add_argument(
        "--norm",
        choices=("l2", "linf"),
        help="rand, det, other and shortcut_...: norm of perturbations, "
        "default: l2",
    )
    parser.add_argument(
        "--epsilon",
        type=radius,
        help="the same: radius for pixels in [0, 1], such as 8/255, "
        "default for l2: 0.5; must be given for linf",
    )
    parser.add_argument(
        "--step-size",
        type=radius,
        help="all but shortcut_...: length of a step for pixels in [0, 1], "
        "default: a fifth of the radius; for robust, non_robust and mix 0.1",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="the same, default: 1000 for robust, non_robust and mix, or 100",
    )
    parser.add_argument(
        "--start",
        choices=("image", "noise"),
        help="robust, non_robust and mix: where the inversion starts, "
        "default: image",
    )
    parser.add_argument(
        "--layer", help="robust, non_robust and mix: of the representation"
    )
    parser.add_argument(
        "--optimizer",
        choices=("gradient_descent", "polyak"),
        help="robust, non_robust and mix, default: gradient_descent, as in the "
        "paper",
    )
    parser.add_argument(
        "--early-stop",
        action="store_true",
        default=None,
        help="rand, det, other: stop once the model predicts the target",
    )
    parser.add_argument(
        "--alpha", type=float, help="mix: share of D_R, default: 0.9"
    )


def _add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-workers",
        type=int,
        default=1,
        help="number of processes that share the work, each by this command",
    )
    parser.add_argument(
        "--worker",
        type=int,
        default=0,
        help="number of this process, from 0",
    )
    parser.add_argument(
        "--finalize",
        action="store_true",
        help="complete the data set once all workers are done",
    )
    parser.add_argument(
        "--beam",
        metavar="FLAGS",
        help="run on Apache Beam with these flags, such as "
        "'--runner=FlinkRunner'; needs the extra `beam`",
    )


def run(
    kind: str,
    data: str,
    model: Any,
    output: str,
    scaling: str = "unit",
    split: str = "train",
    examples: int | None = None,
    name: str | None = None,
    config: str | None = None,
    dtype: str = "float32",
    file_format: str = "tfrecord",
    shard_size: int = 512,
    num_workers: int = 1,
    worker: int = 0,
    finalize: bool = False,
    beam: Any = None,
    verbose: int = 1,
    resize: bool = False,
    **options: Any,
) -> Any:
    """Generate a data set with a saved model.

    Args:
        kind: One of `KINDS`.
        data: What `DataSpecification` takes.
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
        finalize: Whether only to complete the data set after all workers.
        beam: Flags of an Apache Beam pipeline to run on, as one text.
        verbose: 0 for silence.
        resize: Whether to resize images to the input of the model.
        **options: Those of `transform_of` by name, `None` where not given.

    Returns:
        What `datasets.generate` returns, or for `finalize` and `beam` the
        folder.
    """
    from keras_robust import datasets
    from keras_robust.datasets.generation.names import check_names
    from keras_robust.datasets.generation.names import default_name

    if model is None and not kind.startswith("shortcut_"):
        raise ValueError(
            f"The data set {kind!r} needs a source model: --model MODEL.keras. "
            "Received: model=None"
        )
    # Before a model is loaded or a data set is downloaded.
    options = _checked_options(kind, options)
    specification = datasets.DataSpecification(data)
    known = specification.tfds_name or specification.name
    name = name or default_name(known)
    check_names(name, config or "config", split)
    network = None
    if model is not None:
        network = load_network(model)
    source = _source(specification, network, split, resize, examples)
    classes = 0
    if kind.startswith("shortcut_"):
        classes = specification.count_classes(_part(split))
    unit = None if scaling == "unit" else scaling
    transform = transform_of(kind, network, classes, unit, options)
    shared: dict[str, Any] = {
        "config": config or _config_name(kind, transform),
        "name": name,
        "split": split,
        "examples": examples,
        "dtype": dtype,
        "file_format": file_format,
        "shard_size": shard_size,
    }
    if finalize:
        return _finalize(transform, source, output, shared)
    if beam is not None:
        return _generate_on_beam(transform, source, output, beam, shared)
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


def _source(
    data: "DataSpecification",
    network: Any,
    split: str,
    resize: bool,
    examples: int | None,
) -> Any:
    """What `datasets.generate` reads.

    Sets of TFDS are read by their names, batch by batch.
    """
    from keras_robust.datasets.generation.indexed_source import IndexedSource

    part = _part(split)
    shape = None if network is None else shape_of(network)
    streamed = data.tfds_name
    if streamed is not None and not resize:
        if shape is not None:
            data.check_fit(shape, classes_of(network), part)
        return streamed
    if split != part and data.splits:
        raise ValueError(
            "Argument `--split` must be 'train' or 'test' where data have such "
            "parts (in folders 'test' is also val/ and validation/). "
            f"Received: --split {split}, --data {data.text}"
        )
    images = read_for(network, data, part, resize, examples)
    return IndexedSource(
        images.x,
        images.y,
        class_names=images.class_names,
        name=data.name,
        split=split,
        width=images.columns,
    )


def _part(split: str) -> str:
    """The part of the data that is read for a split of another name."""
    return "test" if split == "test" else "train"


def _finalize(
    transform: Any, source: Any, output: str, shared: dict[str, Any]
) -> pathlib.Path:
    """Complete the data set of several workers; return its folder."""
    from keras_robust import datasets

    generation = datasets.Generation(transform, source, output, **shared)
    generation.close()
    with generation.shards.lock():
        generation.shards.remove_leftovers()
        folder = generation.finalize()
    print(f"Finished: {folder}")
    return folder


def _generate_on_beam(
    transform: Any,
    source: Any,
    output: str,
    flags: str,
    shared: dict[str, Any],
) -> pathlib.Path:
    """Generate the data set on Apache Beam; return its folder."""
    from keras_robust.datasets.generation.beam import generate_on_beam

    folder = generate_on_beam(
        transform,
        source,
        directory=output,
        pipeline_options=shlex.split(flags),
        **shared,
    )
    print(f"Finished: {folder}")
    return folder


def _config_name(kind: str, transform: Any) -> str:
    return transform.config_name if kind == "mix" else kind


def _checked_options(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a kind, with its defaults.

    Args:
        kind: One of `KINDS`.
        given: Options by name; `None` for those that are not given.

    Raises:
        ValueError: If one has no effect on the kind, or a norm has no radius.
    """
    shared = {key: given.pop(key) for key in ("batch_size", "seed")}
    given = {key: value for key, value in given.items() if value is not None}
    defaults = _DEFAULTS[kind]
    for key, value in given.items():
        if key not in defaults:
            option = "--" + key.replace("_", "-")
            kinds = [each for each in KINDS if key in _DEFAULTS[each]]
            raise ValueError(
                f"Option {option} must be left out for {kind!r}, on which it "
                f"has no effect: it is one of {', '.join(kinds)}. "
                f"Received: {option} {value}"
            )
    norm = given.get("norm", "l2")
    if norm != "l2" and "epsilon" not in given:
        raise ValueError(
            f"Argument `--epsilon` must be given with --norm {norm}, such as "
            "--epsilon 8/255: 0.5 is a radius of L2. Received: no --epsilon"
        )
    return {**defaults, **given, **shared}


def transform_of(
    kind: str,
    model: Any,
    num_classes: int,
    scaling: str | None,
    options: dict[str, Any],
) -> Any:
    """Create the transform of a command line.

    Args:
        kind: One of `KINDS`.
        model: A Keras model, or `None` for shortcuts.
        num_classes: C.
        scaling: As in `Robustifier`.
        options: Arguments of the transform by name.

    Returns:
        A transform for `datasets.generate`.
    """
    from keras_robust.transforms import Mixture
    from keras_robust.transforms import NonRobustifier
    from keras_robust.transforms import Robustifier
    from keras_robust.transforms import Shortcut
    from keras_robust.transforms.non_robustifier import CONFIG_NAMES

    targets = {config: target for target, config in CONFIG_NAMES.items()}
    if kind.startswith("shortcut_"):
        target = targets[kind.removeprefix("shortcut_")]
        return Shortcut(num_classes, target, **options)
    if kind in targets:
        return NonRobustifier(
            model, target=targets[kind], scaling=scaling, **options
        )
    if kind == "mix":
        share = options["alpha"]
        inverted = {key: options[key] for key in options if key != "alpha"}
        return Mixture(Robustifier(model, scaling=scaling, **inverted), share)
    return Robustifier(model, scaling=scaling, **options)
