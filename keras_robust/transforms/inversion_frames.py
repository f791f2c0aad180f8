"""Stages of an inversion, to be looked at."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.utils.messages import shown

if TYPE_CHECKING:
    from keras_robust.plot.style import Picture


@dataclass(frozen=True, kw_only=True, repr=False)
class InversionFrames:
    """What an inversion has made after some numbers of steps.

    Attributes:
        target: Float array `(N, ...)`, the images whose features are matched.
        steps: Int array `(K,)`.
        x: Float array `(K, N, ...)`, the images after as many steps.
        distance: Float array `(K, N)` between the representations.
        value_range: `(low, high)` of pixels.
    """

    target: np.ndarray
    steps: np.ndarray
    x: np.ndarray
    distance: np.ndarray
    value_range: tuple[Any, Any]

    def plot(
        self, path: str | os.PathLike[str] | None = None, count: int = 4
    ) -> "Picture":
        """Draw a row for each image: its stages, then the target.

        Args:
            path: File to save, whose suffix decides the format, or `None`.
            count: Int >= 1, how many images, the first ones.

        Returns:
            The figure. Under each image is the distance between its
            representation and the target's.
        """
        from keras_robust.plot.frames import draw_frames
        from keras_robust.plot.style import save

        picture = draw_frames(
            self.target[:count],
            self.x[:, :count],
            steps=self.steps,
            distance=self.distance[:, :count],
            value_range=self.value_range,
        )
        return save(picture, path)

    def animate(
        self, path: str | os.PathLike[str], count: int = 4, fps: int = 2
    ) -> None:
        """Write the stages as an animated GIF, the targets below them.

        Args:
            path: File to write, such as `"inversion.gif"`.
            count: Int >= 1, how many images, the first ones.
            fps: Stages in a second.
        """
        from keras_robust.plot.frames import animate_frames

        animate_frames(
            path,
            self.target[:count],
            self.x[:, :count],
            steps=self.steps,
            value_range=self.value_range,
            fps=fps,
        )

    def _repr_png_(self) -> bytes:
        """The figure, for IPython."""
        return self.plot().to_png()


def check_steps(steps: Any, most: int) -> np.ndarray:
    """The numbers of steps after which an image is kept, in order.

    Args:
        steps: Ints >= 0, or `None` to choose them.
        most: The last one of those that are chosen.

    Raises:
        ValueError: If `steps` is something else.
    """
    if steps is None:
        chosen = [one * 10**power for power in range(9) for one in (1, 3)]
        return np.array([0, *(one for one in chosen if one < most), most])
    found = np.asarray(steps)
    is_whole = found.ndim == 1 and np.issubdtype(found.dtype, np.integer)
    if not is_whole or not len(found) or (found < 0).any():
        raise ValueError(
            "Argument `steps` must be whole numbers >= 0, in a list. "
            f"Received: steps={shown(steps)}"
        )
    return np.unique(found)
