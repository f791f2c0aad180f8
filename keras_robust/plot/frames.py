"""Pictures of images that change step by step."""

import os
from typing import Any

import numpy as np

from keras_robust.plot.images import show_image
from keras_robust.plot.style import DPI
from keras_robust.plot.style import Picture
from keras_robust.plot.style import new_picture


def draw_frames(
    target: np.ndarray,
    x: np.ndarray,
    steps: np.ndarray,
    distance: np.ndarray,
    value_range: tuple[Any, Any] = (0.0, 1.0),
) -> Picture:
    """Draw a row for each image: its stages, then the target.

    Args:
        target: Images `(N, ...)`.
        x: Images `(K, N, ...)`.
        steps: Int array `(K,)`, above the stages.
        distance: Float array `(K, N)`, below them.
        value_range: `(low, high)`: black and white.
    """
    rows, columns = len(target), len(x) + 1
    picture = new_picture(1.05 * columns + 0.2, 1.3 * rows + 0.5)
    grid = picture.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        for stage, number in enumerate(steps):
            axes = grid[row, stage]
            title = _step_text(int(number)) if row == 0 else ""
            show_image(axes, x[stage, row], value_range, title)
            axes.set_xlabel(f"{distance[stage, row]:.3g}", fontsize=8)
        title = "target" if row == 0 else ""
        show_image(grid[row, -1], target[row], value_range, title)
        grid[row, -1].set_xlabel("0", fontsize=8)
    picture.supxlabel("distance between features and the target's", fontsize=8)
    return picture


def animate_frames(
    path: str | os.PathLike[str],
    target: np.ndarray,
    x: np.ndarray,
    steps: np.ndarray,
    value_range: tuple[Any, Any] = (0.0, 1.0),
    fps: int = 2,
) -> None:
    """Write the stages as an animated GIF, the targets below them.

    Args:
        path: File to write.
        target: Images `(N, ...)`.
        x: Images `(K, N, ...)`.
        steps: Int array `(K,)`, written above.
        value_range: `(low, high)`: black and white.
        fps: Stages in a second.
    """
    from matplotlib.animation import PillowWriter

    columns = len(target)
    picture = new_picture(1.2 * columns + 0.4, 3.2)
    grid = picture.subplots(2, columns, squeeze=False)
    for axes, image in zip(grid[1], target, strict=True):
        show_image(axes, image, value_range)
    grid[1][0].set_ylabel("target", fontsize=9)
    writer = PillowWriter(fps=fps)
    with writer.saving(picture, os.fspath(path), dpi=DPI):
        for number, images in zip(steps, x, strict=True):
            for axes, image in zip(grid[0], images, strict=True):
                axes.clear()
                show_image(axes, image, value_range)
            picture.suptitle(_step_text(int(number)), fontsize=9)
            writer.grab_frame()


def _step_text(number: int) -> str:
    if number == 0:
        return "start"
    return "1 step" if number == 1 else f"{number} steps"
