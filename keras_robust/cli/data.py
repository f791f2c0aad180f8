"""The option `--data`, and what it names for a saved model."""

import argparse
from typing import TYPE_CHECKING
from typing import Any

from keras_robust.cli.arguments import DATASETS

if TYPE_CHECKING:
    from keras_robust.datasets import DataSpecification
    from keras_robust.datasets import LabelledImages

DATA_HELP = (
    "a folder with a subfolder of images for each class; an .npz file with "
    "arrays x and y, or x_test and y_test; tfds:NAME or tfds:NAME:SPLIT; "
    "module:function or file.py:function, which returns (x, y); or one of "
    f"{', '.join(DATASETS)}. Pixels in [0, 1] or 0 to 255, labels 0, 1, 2, ... "
    "or one-hot"
)


def add_data_arguments(
    parser: argparse.ArgumentParser,
    *other_names: str,
    what: str = "images and labels",
) -> None:
    """Add `--data` and `--resize`.

    Args:
        parser: An `argparse.ArgumentParser`.
        *other_names: Other names of `--data`.
        what: What is read, for the help.
    """
    parser.add_argument(
        "--data",
        *other_names,
        dest="data",
        required=True,
        metavar="DATA",
        help=f"{what}: {DATA_HELP}",
    )
    parser.add_argument(
        "--resize",
        action="store_true",
        help="resize images to the input of the model, bilinearly; otherwise "
        "images of another size are an error",
    )


def load_network(path: Any) -> Any:
    """Load a saved Keras model.

    Args:
        path: Path of the file.

    Raises:
        ValueError: If it is not there, or needs code that is not known.
    """
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except (TypeError, ImportError) as error:
        # What Keras raises for classes and functions that it does not know.
        raise ValueError(
            "Classes and functions of your own in a saved model must have the "
            "decorator keras.saving.register_keras_serializable() and be "
            "imported: name the file that defines them by `--data "
            "file.py:function`, which runs before the model is loaded. "
            f"Received: {path}, {error}"
        ) from error


def shape_of(network: Any) -> tuple[int | None, ...] | None:
    """The shape of one input of a model, where there is one that is known."""
    try:
        shape = tuple(network.input_shape[1:])
    except (AttributeError, TypeError, KeyError):
        # A subclassed model or several inputs: checked in the evaluation.
        return None
    if all(length is None or isinstance(length, int) for length in shape):
        return shape
    return None


def classes_of(network: Any) -> int | None:
    """The number of classes of a model, where it is known."""
    shape = getattr(network, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] is None:
        # Several outputs, or an unknown shape.
        return None
    return max(shape[1], 2)


def read_for(
    network: Any,
    data: "DataSpecification",
    split: str,
    resize: bool,
    examples: int | None,
) -> "LabelledImages":
    """Read images for a model, once it is known that they fit.

    Args:
        network: A Keras model, or `None`.
        data: Where to read.
        split: `"train"` or `"test"`.
        resize: Whether to resize images to the input of the model.
        examples: Int, how many images; `None` for all.

    Raises:
        ValueError: If data and model do not fit.
    """
    shape = None if network is None else shape_of(network)
    if resize and shape is None:
        raise ValueError(
            "With --resize the model must have one input of a known shape. "
            f"Received: {'no model' if network is None else 'another model'}"
        )
    classes = None if network is None else classes_of(network)
    return data.read(split, shape, classes, resize, examples)
