"""Diagrams of numbers: curves, bars, matrices."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

import numpy as np

from keras_robust.plot.style import BLUE
from keras_robust.plot.style import COLORS
from keras_robust.plot.style import GREY
from keras_robust.plot.style import Picture
from keras_robust.plot.style import legend_below
from keras_robust.plot.style import line_style
from keras_robust.plot.style import new_picture
from keras_robust.plot.style import open_sides
from keras_robust.plot.style import percent_axis
from keras_robust.plot.style import save
from keras_robust.plot.units import Units

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A rate on a darker square is written in white.
_DARK = 0.55


class Curve(Protocol):
    """What `curves` draws, such as a `RobustnessCurve`."""

    epsilons: np.ndarray
    accuracy: np.ndarray
    intervals: np.ndarray
    norm: str
    provenance: dict[str, Any]


def curves(
    curves: Mapping[str, Curve], path: str | os.PathLike[str] | None = None
) -> Picture:
    """Draw accuracy over radius, a line for each curve.

    Args:
        curves: Dictionary of `RobustnessCurve`s by what the legend calls
            them, all of one norm and one range of pixels.
        path: File to save, whose suffix decides the format, or `None`.

    Returns:
        The figure, with the bands of the 95 % intervals. The upper axis has
        the radii in levels of 255, where the inputs are images.

    Raises:
        ValueError: If norms or ranges differ.

    Example:

    ```python
    keras_robust.plot.curves({"standard": curve, "hardened": other})
    ```
    """
    units = _shared_units(curves)
    picture = new_picture(5, 3.6)
    axes = picture.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        style = line_style(number, len(curve.epsilons))
        axes.plot(
            curve.epsilons, 100 * curve.accuracy, label=name, ms=4, **style
        )
        low, high = 100 * np.asarray(curve.intervals).T
        axes.fill_between(
            curve.epsilons,
            low,
            high,
            color=style["color"],
            alpha=0.2,
            linewidth=0,
        )
    label_radii(axes, units)
    percent_axis(axes)
    legend_below(axes, curves)
    return save(picture, path)


def _shared_units(curves: Mapping[str, Curve]) -> Units:
    found = {
        name: Units.of(curve.provenance, curve.norm)
        for name, curve in curves.items()
    }
    different = {(units.norm, units.value_range) for units in found.values()}
    if len(different) != 1:
        received = {
            name: f"{units.norm}, value_range {units.value_range}"
            for name, units in found.items()
        }
        raise ValueError(
            "Argument `curves` must hold curves of one norm and one range of "
            f"pixels, at least one. Received: {received}"
        )
    return next(iter(found.values()))


def legend_beside(axes: "Axes") -> None:
    """A legend to the right of a diagram with many lines."""
    axes.legend(
        frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)
    )


def label_radii(axes: "Axes", units: Units) -> None:
    """Label an axis of radii, and above it the levels of 255 where known."""
    axes.set_xlabel(units.axis_label())
    axes.set_xlim(left=0)
    levels = units.levels
    if levels is not None:
        above = axes.secondary_xaxis(
            "top",
            functions=(
                lambda radius: np.multiply(radius, levels),
                lambda level: np.divide(level, levels),
            ),
        )
        above.set_xlabel(units.levels_label(), fontsize=8)
        above.tick_params(labelsize=8)


def bars(
    axes: "Axes",
    shares: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
) -> None:
    """Draw shares as bars with their intervals and numbers.

    Args:
        axes: Where to.
        shares: Numbers in [0, 1] by name, the first one on top.
        intervals: `(low, high)` by name.
    """
    heights = 100 * np.array(list(shares.values()))
    low, high = 100 * np.array([intervals[name] for name in shares]).T
    errors = np.maximum([heights - low, high - heights], 0)
    # Clean accuracy is what the others are compared with.
    colors = [GREY if name == "clean" else BLUE for name in shares]
    axes.barh(list(shares), heights, xerr=errors, capsize=3, color=colors)
    for row, (height, top) in enumerate(zip(heights, high, strict=True)):
        axes.text(top + 1.5, row, f"{height:.1f}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy, % (lines: 95 % intervals)")
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 20))
    open_sides(axes)


def matrix(
    axes: "Axes",
    rates: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
) -> None:
    """Draw rates in [0, 1] as squares with their numbers; none for NaN.

    Args:
        axes: Where to.
        rates: Array `(rows, columns)`.
        rows: Their names.
        columns: Their names.
    """
    axes.imshow(100 * rates, vmin=0, vmax=100, cmap="Blues")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    for (row, column), rate in np.ndenumerate(rates):
        axes.text(
            column,
            row,
            "–" if np.isnan(rate) else f"{100 * rate:.0f}",
            ha="center",
            va="center",
            color="white" if rate > _DARK else "black",
        )


def steps(axes: "Axes", rows: Mapping[str, np.ndarray], right: float) -> None:
    """Draw how many examples are further than each radius.

    Args:
        axes: Where to.
        rows: Distances `(N,)` by name; infinity counts as further than all.
        right: The largest radius shown.
    """
    for number, (name, found) in enumerate(rows.items()):
        radii = np.sort(found[found < right])
        left = 100 * (1 - np.arange(len(radii) + 1) / len(found))
        axes.step(
            [0.0, *radii, right],
            [*left, left[-1]],
            where="post",
            label=name,
            color=COLORS[number % len(COLORS)],
            linestyle=line_style(number)["linestyle"],
        )
    legend_below(axes, rows)
