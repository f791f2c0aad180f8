"""Pictures of images: clean, the change, attacked; and of what is made."""

import math
import os
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from keras import ops

from keras_robust.plot.style import BLUE
from keras_robust.plot.style import DARK_RED
from keras_robust.plot.style import Picture
from keras_robust.plot.style import new_picture
from keras_robust.plot.style import save
from keras_robust.utils.messages import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Factors by which a change is amplified: steps that are easily read.
_FACTORS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# Lengths of a last axis that is hardly the width of an image.
_CHANNELS = (1, 3, 4)
# A first axis up to this length, before clearly longer ones, holds channels.
_MOST_CHANNELS = 4
_CLEARLY_LONGER = 1.5
# Inches: the line below the images is as long.
_LEAST_WIDTH = 4.8


def images(
    x: Any,
    x_adv: Any,
    labels: Any = None,
    predictions: Any = None,
    class_names: Sequence[str] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    count: int = 8,
    path: str | os.PathLike[str] | None = None,
) -> Picture:
    """Draw images, the changes to them amplified, and the changed images.

    Args:
        x: Images `(N, H, W)`, `(N, H, W, C)` or channels first, arrays or
            tensors; inputs `(N, D)` become stripes. One image is `image[None]`.
        x_adv: The changed images, like `x`.
        labels: Above the images: true labels `(N,)`, or `(N, C)` whose largest
            entry counts; `None` for none.
        predictions: Above the changed images: what a model says, or the labels
            that they were given; like `labels`. What differs from `labels` is
            red and has a cross.
        class_names: Names to print in place of numbers.
        value_range: `(low, high)`: black and white.
        count: Int >= 1, how many examples, the first ones.
        path: File to save, whose suffix decides the format, or `None`.

    Returns:
        The figure: a column for each example. Changes are multiplied by one
        factor, which is written beside them; grey, or white for images without
        color, is no change. The largest change is written below.

    Raises:
        ValueError: If arguments do not fit.

    Example:

    ```python
    x_adv = attack(model, x, y)
    keras_robust.plot.images(x, x_adv, y, model.predict(x_adv))
    ```
    """
    if count < 1:
        raise ValueError(
            f"Argument `count` must be >= 1. Received: count={shown(count)}"
        )
    before, after = _pair(x, x_adv)
    _refuse_one_image(before.shape, (labels, predictions))
    before, after = (one[:count].astype("float32") for one in (before, after))
    titles = [
        _names(given, len(before), class_names, name)
        for given, name in ((labels, "labels"), (predictions, "predictions"))
    ]
    low, high = _check_range(value_range)
    _check_pixels(before, (low, high))
    change = after - before
    factor = _factor(float(np.abs(change).max(initial=0.0)), high - low)
    columns = len(before)
    picture = new_picture(max(1.0 * columns + 0.9, _LEAST_WIDTH), 4.1)
    grid = picture.subplots(3, columns, squeeze=False)
    for i in range(columns):
        show_image(grid[0, i], before[i], (low, high), titles[0][i])
        _show_change(grid[1, i], change[i] * factor / (high - low))
        show_image(grid[2, i], after[i], (low, high))
        _title_answer(grid[2, i], titles[1][i], titles[0][i])
    for axes, text in zip(
        grid[:, 0],
        ("clean", f"change\n× {factor:g}", "attacked"),
        strict=True,
    ):
        axes.set_ylabel(text, fontsize=9)
    picture.supxlabel(_largest(change, (low, high)), fontsize=8)
    return save(picture, path)


def show_image(
    axes: "Axes",
    image: np.ndarray,
    value_range: tuple[float, float] = (0.0, 1.0),
    title: str = "",
) -> None:
    """Draw one image without ticks.

    Args:
        axes: Where to.
        image: See `as_picture`.
        value_range: `(low, high)`: black and white.
        title: Text above it.
    """
    low, high = value_range
    scaled = (np.asarray(image, "float32") - low) / (high - low)
    picture = np.clip(as_picture(scaled), 0, 1)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=8)


def as_picture(image: np.ndarray) -> np.ndarray:
    """An input of any shape as `(H, W)`, or as `(H, W, 3)` where it has colors.

    Other numbers of channels are shown as their mean.

    Args:
        image: Array `(H, W)`, `(H, W, C)`, `(C, H, W)`, or of another shape.
    """
    if image.ndim == 3 and _is_channels_first(image.shape):
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3:
        colors = image.shape[-1] in (3, 4)
        return image if colors else image.mean(-1)
    if image.ndim == 1:
        return image[None]
    return image.reshape(image.shape[0], -1)


def _is_channels_first(shape: tuple[int, ...]) -> bool:
    first, rows, columns = shape
    is_short = _CLEARLY_LONGER * first <= min(rows, columns)
    return is_short and first <= _MOST_CHANNELS < columns


def _pair(x: Any, x_adv: Any) -> tuple[np.ndarray, np.ndarray]:
    """The images of both, as arrays."""
    before, after = (
        np.asarray(ops.convert_to_numpy(one)) for one in (x, x_adv)
    )
    if before.shape != after.shape or before.ndim < 2 or not len(before):
        raise ValueError(
            "Arguments `x` and `x_adv` must be images of the same shape "
            f"(N, ...), N >= 1. Received: {before.shape} and {after.shape}"
        )
    return before, after


def _refuse_one_image(shape: tuple[int, ...], given: Iterable[Any]) -> None:
    """Raise if rows of one image would be drawn as so many images.

    Labels for each tell that they are inputs `(N, T, C)`, such as sequences.
    """
    is_labelled = any(np.ndim(one) and len(one) >= shape[0] for one in given)
    if len(shape) == 3 and shape[-1] in _CHANNELS and not is_labelled:
        raise ValueError(
            "Arguments `x` and `x_adv` must be images (N, H, W, C) or "
            "(N, H, W); pass one image as `image[None]`, and sequences "
            f"(N, T, C) with their `labels`. Received: {shape}"
        )


def _names(
    given: Any, count: int, names: Sequence[str] | None, argument: str
) -> list[str]:
    """Texts of labels, empty where there are none."""
    if given is None:
        return [""] * count
    labels = np.asarray(ops.convert_to_numpy(given))
    if labels.ndim == 2:
        labels = labels.argmax(-1) if labels.shape[1] > 1 else labels[:, 0]
    if labels.ndim != 1 or len(labels) < count:
        raise ValueError(
            f"Argument `{argument}` must have a label (N,), or a row (N, C), "
            f"for each image. Received: shape {labels.shape}"
        )
    numbers = [int(label) for label in labels[:count]]
    if not np.array_equal(numbers, labels[:count]):
        raise ValueError(
            f"Argument `{argument}` must hold class numbers, or a score for "
            "each class; of a single sigmoid pass `outputs > 0.5`, of a single "
            f"logit `outputs > 0`. Received: {shown(labels[:count].tolist())}"
        )
    if names is None:
        return [str(number) for number in numbers]
    if not all(0 <= number < len(names) for number in numbers):
        raise ValueError(
            "Argument `class_names` must have a name for each label in "
            f"`{argument}`. Received: {len(names)} names, and the labels "
            f"{sorted(set(numbers))}"
        )
    return [str(names[number]) for number in numbers]


def _check_range(value_range: Any) -> tuple[float, float]:
    low, high = (float(one) for one in value_range)
    if not low < high or not math.isfinite(high - low):
        raise ValueError(
            "Argument `value_range` must be (low, high), low < high. "
            f"Received: value_range={shown(value_range)}"
        )
    return low, high


def _check_pixels(x: np.ndarray, value_range: tuple[float, float]) -> None:
    """Raise if images would be drawn all white or all black."""
    low, high = value_range
    margin = 0.01 * (high - low)
    darkest, brightest = float(x.min()), float(x.max())
    if x.ndim > 2 and (darkest < low - margin or brightest > high + margin):
        raise ValueError(
            "Argument `value_range` must hold the images `x`. Received: "
            f"value_range={shown(value_range)} and pixels from {darkest:g} to "
            f"{brightest:g}"
        )


def _factor(largest: float, width: float) -> float:
    """The largest readable factor with which a change fits half the range."""
    fits = [
        factor
        for factor in _FACTORS
        # Rounding: 5 times 0.1, as float32, is half of 1.
        if factor * largest <= width / 2 * (1 + 1e-4)
    ]
    return float(fits[-1]) if fits and largest > 0 else 1.0


def _show_change(axes: "Axes", change: np.ndarray) -> None:
    """Draw a change that is given as a share of the range, in [-0.5, 0.5]."""
    picture = as_picture(change)
    if picture.ndim == 3:
        picture = np.clip(picture[..., :3] + 0.5, 0, 1)
        axes.imshow(picture, interpolation="nearest")
    else:
        axes.imshow(
            picture,
            cmap="RdBu_r",
            vmin=-0.5,
            vmax=0.5,
            interpolation="nearest",
        )
    axes.set_xticks([])
    axes.set_yticks([])


def _title_answer(axes: "Axes", answer: str, label: str) -> None:
    """Write what a model says; marked where it is not the label."""
    wrong = bool(label) and bool(answer) and answer != label
    axes.set_title(
        f"{answer} ✗" if wrong else answer,
        fontsize=8,
        color=DARK_RED if wrong else BLUE,
        fontweight="bold" if wrong else "normal",
    )


def _largest(change: np.ndarray, value_range: tuple[float, float]) -> str:
    """The largest changes in words."""
    low, high = value_range
    flat = change.reshape(len(change), -1)
    linf = float(np.abs(flat).max(initial=0.0))
    l2 = float(np.linalg.norm(flat, axis=1).max(initial=0.0))
    levels = 255 * linf / (high - low)
    return (
        f"largest change: L∞ {linf:.3g} ({levels:.3g} of 255), L2 {l2:.3g}, "
        f"for values in [{low:g}, {high:g}]"
    )
