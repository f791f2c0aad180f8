"""Colors and axes that all figures share."""

import io
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Paul Tol's bright scheme: told apart by color-blind readers, and in grey.
BLUE, RED, PURPLE, GREY = "#4477aa", "#ee6677", "#aa3377", "#bbbbbb"
YELLOW, GREEN, CYAN = "#ccbb44", "#228833", "#66ccee"
# Of small text, which the brighter red is too light for.
DARK_RED = "#cc3311"
# Of lines; markers and dashes tell them apart without color.
COLORS = (BLUE, RED, GREEN, YELLOW, PURPLE, CYAN, "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
# Lines of more points have no markers, which would cover each other.
_MARKED_POINTS = 20
# Dots per inch of figures in notebooks and pages.
DPI = 80


class Picture(Figure):
    """A figure that a notebook shows where it is the last line of a cell.

    It is not one of pyplot's figures: nothing has to be closed, and a program
    without a display needs no other backend. Save it by `savefig`.
    """

    def _repr_png_(self) -> bytes:
        """The figure, for IPython."""
        return self.to_png()

    def to_png(self, dpi: int = DPI) -> bytes:
        """The figure as the content of a PNG file.

        Args:
            dpi: Dots per inch.
        """
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=dpi)
        return file.getvalue()


def new_picture(width: float, height: float) -> Picture:
    """A figure whose parts do not overlap.

    Args:
        width: Inches.
        height: Inches.
    """
    return Picture(figsize=(width, height), layout="constrained")


def save(
    picture: Picture, path: str | os.PathLike[str] | None = None
) -> Picture:
    """The same figure, saved where a path is given."""
    if path is not None:
        picture.savefig(path)
    return picture


def open_sides(axes: "Axes") -> None:
    """Remove the upper and the right edge of a diagram."""
    axes.spines[["top", "right"]].set_visible(False)


def percent_axis(axes: "Axes", what: str = "accuracy") -> None:
    """Label an axis of shares, from 0 to 100 %."""
    axes.set_ylabel(f"{what}, %")
    axes.set_ylim(0, 102)
    axes.set_yticks(range(0, 101, 20))
    open_sides(axes)


def line_style(number: int, points: int = 0) -> dict[str, Any]:
    """Color, dashes, and markers unless there are many points.

    Args:
        number: Of the line, from 0.
        points: How many points it has.
    """
    is_marked = points <= _MARKED_POINTS
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[number % len(MARKERS)] if is_marked else "",
        "linestyle": DASHES[number % len(DASHES)],
    }


def legend_below(axes: "Axes", labels: Iterable[str]) -> None:
    """A legend where there is more than one line."""
    if len(list(labels)) > 1:
        axes.legend(frameon=False, fontsize=8)
