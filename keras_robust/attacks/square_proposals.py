"""What the Square attack proposes, query by query: tables drawn on the host.

All examples get the same windows and signs, as in the published code for
L-infinity; so an example's result does not depend on its batch.
"""

import numpy as np

from keras_robust.attacks.engine.randomness import generator

# Queries (of 10 000) after which the share of changed pixels halves.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def window_sizes(
    queries: int, share: float, height: int, width: int, least: int
) -> np.ndarray:
    """The side of the window at each query.

    Andriushchenko et al. 2020 (arXiv:1912.00049), section 3: a window of
    `share` of the pixels, which halves on a fixed schedule, here stretched
    from the published 10 000 queries to `queries`.

    Args:
        queries: Int >= 1.
        share: Float in (0, 1], share of the pixels at first.
        height: Int, of the image.
        width: Int, of the image.
        least: Int, the smallest window.

    Returns:
        Int array `(queries,)`.
    """
    at = (np.arange(queries) / queries * 10_000).astype(int)
    halvings = np.searchsorted(_HALVINGS, at, side="left")
    side = np.sqrt(share * 0.5**halvings * height * width)
    side = np.maximum(np.round(side), least).astype(int)
    return np.minimum(side, min(height, width))


def windows(
    seed: int | None,
    restart: int,
    queries: int,
    share: float,
    shape: tuple[int, ...],
    norm: str,
    edges: bool = True,
) -> dict[str, np.ndarray]:
    """Places and signs of every query.

    Args:
        seed: Int or `None`.
        restart: Int.
        queries: Int.
        share: As in `window_sizes`.
        shape: `(height, width, channels)`.
        norm: `"l2"` or `"linf"`.
        edges: Whether a window may end in the last row and column, see
            `SquareAttack`.

    Returns:
        Dictionary: `windows`, int32 `(queries, 6)`: level, side, row and
        column of the first window, row and column of the second; `signs`,
        float32 `(queries, channels)`; `turned`, float32 `(queries,)`, 1
        where the pattern is transposed; `patterns`, float32
        `(levels, height, width)`, the L2 pattern of each side.
    """
    height, width, channels = shape
    random = generator(seed, restart, 2)
    side = window_sizes(queries, share, height, width, 3 if norm == "l2" else 1)
    if norm == "l2":
        # Odd sides have a middle.
        side += 1 - side % 2
        limit = min(height, width)
        side = np.minimum(side, limit - 1 + limit % 2)
    sides, level = np.unique(side, return_inverse=True)
    corners = random.random((queries, 4))
    limits = np.array([height, width, height, width]) - side[:, None]
    limits = limits + 1 if edges else np.maximum(limits, 1)
    places = (corners * limits).astype(int)
    patterns = np.zeros((len(sides), height, width), "float32")
    if norm == "l2":
        for pattern, size in zip(patterns, sides, strict=True):
            pattern[:size, :size] = two_hills(size)
    return {
        "windows": np.column_stack([level, side, places]).astype("int32"),
        "signs": random.choice([-1.0, 1.0], (queries, channels)).astype(
            "float32"
        ),
        "turned": (random.random(queries) > 0.5).astype("float32"),
        "patterns": patterns,
    }


def two_hills(side: int) -> np.ndarray:
    """A hill beside a valley, of L2 norm 1 (section 3.4 of the paper).

    Args:
        side: Int >= 2.

    Returns:
        Float array `(side, side)`.
    """
    half = side // 2
    pattern = np.concatenate([_hill(half, side), -_hill(side - half, side)])
    return pattern / np.linalg.norm(pattern)


def _hill(height: int, width: int) -> np.ndarray:
    """Rectangles around the middle, each lower than the one inside."""
    hill = np.zeros((height, width))
    top, left = height // 2, width // 2
    for ring in range(max(height // 2, width // 2) + 1):
        rows = slice(max(top - ring, 0), min(top + ring + 1, height))
        columns = slice(max(left - ring, 0), min(left + ring + 1, width))
        hill[rows, columns] += 1 / (ring + 1) ** 2
    return hill / np.linalg.norm(hill)


def checkerboard(
    seed: int | None, restart: int, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The L2 start: a grid of hills and valleys, unsigned.

    Args:
        seed: Int or `None`.
        restart: Int.
        shape: `(height, width, channels)`.

    Returns:
        `(pattern, tile)`: float32 `(height, width)`, and int32 of the same
        shape, which tile a pixel belongs to.
    """
    height, width, _ = shape
    random = generator(seed, restart, 3)
    side = max(min(height, width) // 5, 2)
    pattern = np.zeros((height, width), "float32")
    tile = np.zeros((height, width), "int32")
    number = 0
    first_row = (height - side * (height // side)) // 2
    first_column = (width - side * (width // side)) // 2
    for row in range(first_row, height - side + 1, side):
        for column in range(first_column, width - side + 1, side):
            hills = two_hills(side)
            if random.random() > 0.5:
                hills = hills.T
            here = (slice(row, row + side), slice(column, column + side))
            pattern[here] = hills
            tile[here] = number
            number += 1
    return pattern, tile
