"""The loop of HopSkipJump, in NumPy."""

import functools
import math
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.balls import Ball
from keras_robust.attacks.engine.decisions import Decisions
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import nearest_within
from keras_robust.attacks.engine.nearest_loop import NOT_FOUND
from keras_robust.attacks.engine.randomness import generator
from keras_robust.attacks.grid import points_inside
from keras_robust.attacks.norms import distances

# Uniform noise that is tried as the first adversarial example.
_TRIES = 50
# Random stream of an example besides those of its steps, which count from 1.
_NOISE = 0
# Probes of an example that are drawn at once.
_BLOCK = 32
# At most so many probes in a step, and halvings of its length.
_MOST_PROBES, _MOST_HALVINGS = 10_000, 24
# Smaller changes, as shares of the box, are lost in float32.
_SMALLEST_CHANGE = 2.0**-20
_FINEST_BISECTION = 2.0**-24


def probes_of_step(first: int, step: int) -> int:
    """The number of probes in a step, the first of which is 1."""
    return min(int(first * math.sqrt(step)), _MOST_PROBES)


class _Rows:
    """The inputs of a batch as NumPy arrays."""

    def __init__(self, inputs: Inputs) -> None:
        rows = keras.tree.map_structure(ops.convert_to_numpy, inputs.rows)
        self.center: np.ndarray = rows["center"]
        self.y: np.ndarray = rows["y"]
        self.row: np.ndarray = rows["row"]
        self.epsilon: np.ndarray = rows["epsilon"]
        self.mask: np.ndarray | None = rows.get("mask")
        self.held: dict[str, np.ndarray] = rows.get("held", {})
        # Which `init` alone reads.
        self.start: Any = rows.get("start")

    def held_of(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return {name: part[index] for name, part in self.held.items()}


@dataclass(frozen=True, kw_only=True)
class HopSkipJumpLoop(Loop):
    """The loop of `HopSkipJumpAttack`, in NumPy.

    The rows of its state hold `x`, an adversarial point at the boundary;
    `used`, the queries so far; `nearest` and `distance`, the nearest
    adversarial point and how far it is (1e30 for none).

    Attributes, besides those of `Loop`:
        decide: `(x, y, held) -> bool (n,)`, whether points reach the goal.
        ball: A class of `balls`.
        unit: Float, the mean width of the box.
        grid: Spacing of the values that inputs can take, or `None`.
        targeted: Whether labels are to be reached.
        queries: Int, points that `decide` may get for one example.
        probes: Int, probes in the first step.
        stops_inside: Whether a success inside the radius ends the search.
        seed: Int or `None`.
    """

    on_host: ClassVar[bool] = True

    decide: Decisions
    ball: type[Ball]
    unit: float
    grid: float | None
    targeted: bool
    queries: int
    probes: int
    stops_inside: bool
    seed: int | None
    early_stop: bool = True

    def init(self, inputs: Inputs) -> State:
        """See `Loop`: an adversarial point, and the boundary before it."""
        rows = _Rows(inputs)
        count = len(rows.center)
        used = np.zeros(count, "int32")
        x, found = self._first_points(rows, used)
        index = np.flatnonzero(found)
        x[index] = self._bisect(rows, index, x[index], used)
        state = {
            "x": x,
            "used": used,
            "nearest": rows.center.copy(),
            "distance": np.full(count, NOT_FOUND, "float32"),
            "active": found,
        }
        self._remember(rows, state, index)
        return State(rows=state, shared={"step": np.zeros((), "int32")})

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: probes, a step, and back to the boundary."""
        rows = _Rows(inputs)
        new = {
            name: np.array(ops.convert_to_numpy(value))
            for name, value in state.rows.items()
        }
        number = int(ops.convert_to_numpy(state.shared["step"])) + 1
        used = new["used"]
        # Bisection and one try of the step must be left over.
        left = self.queries - used - self._bisection_steps(rows) - 1
        new["active"] &= left >= 1
        index = np.flatnonzero(new["active"])
        if not len(index):
            return State(rows=new, shared={"step": np.int32(number)})
        x = new["x"][index]
        distance = self._distance(x, rows.center[index])
        probes = np.minimum(left[index], probes_of_step(self.probes, number))
        length = self._probe_length(rows, distance, first=number == 1)
        direction = self._direction(rows, index, x, length, probes, number)
        used[index] += probes.astype("int32")
        moved, found = self._advance_points(
            rows, index, x, direction, distance / math.sqrt(number), used
        )
        index = index[found]
        new["x"][index] = self._bisect(rows, index, moved[found], used)
        self._remember(rows, new, index)
        return State(rows=new, shared={"step": np.int32(number)})

    def finish(self, inputs: Inputs, state: State) -> dict[str, Tensor]:
        """See `Loop`: the nearest point found, where inside the radius."""
        nearest, distance = (
            ops.convert_to_tensor(state.rows[key])
            for key in ("nearest", "distance")
        )
        return nearest_within(inputs, x=nearest, distance=distance)

    def _remember(
        self, rows: _Rows, state: dict[str, np.ndarray], index: np.ndarray
    ) -> None:
        """Keep the nearest points; stop inside the radius if told so."""
        distance = self._distance(state["x"][index], rows.center[index])
        nearer = distance < state["distance"][index]
        chosen = index[nearer]
        state["nearest"][chosen] = state["x"][chosen]
        state["distance"][chosen] = distance[nearer]
        if self.stops_inside:
            radius = np.minimum(rows.epsilon, NOT_FOUND / 10)
            state["active"] &= state["distance"] > radius

    def _first_points(
        self, rows: _Rows, used: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Adversarial points, however far, and where there are any."""
        x, found = rows.center.copy(), np.zeros(len(rows.center), bool)

        def attempt(
            make: Callable[[np.ndarray], np.ndarray], most: int
        ) -> None:
            index = np.flatnonzero(~found & (used < most))
            if len(index):
                points = self._masked_points(rows, index, make(index))
                right = self._ask(rows, index, points, used)
                x[index[right]], found[index[right]] = points[right], True

        def attempt_noise(numbers: range, most: int, corners: bool) -> None:
            for number in numbers:
                if found.all() or used[~found].min() >= most:
                    break
                attempt(
                    functools.partial(
                        self._noise, rows, number=number, corners=corners
                    ),
                    most,
                )

        def attempt_images() -> None:
            attempt(lambda index: np.asarray(rows.start[index]), self.queries)

        if self.targeted:
            attempt_images()
        attempt_noise(range(_TRIES), self.queries, corners=False)
        if not self.targeted:
            attempt_images()
        half = self.queries // 2
        attempt_noise(range(_TRIES, self.queries), half, corners=True)
        return x, found

    def _noise(
        self, rows: _Rows, index: np.ndarray, number: int, corners: bool
    ) -> np.ndarray:
        """Points uniform in the box, or among its corners."""
        low, high = self.value_range
        shape = rows.center.shape[1:]
        drawn = np.stack(
            [
                generator(self.seed, int(row), _NOISE, number).random(shape)
                for row in rows.row[index]
            ]
        )
        drawn = np.round(drawn) if corners else drawn
        points: np.ndarray = low + (high - low) * drawn
        return points.astype("float32")

    def _masked_points(
        self, rows: _Rows, index: np.ndarray, x: np.ndarray
    ) -> np.ndarray:
        """Points of the box and the grid that differ where the mask allows."""
        center = rows.center[index]
        if rows.mask is not None:
            x = np.where(rows.mask[index] > 0, x, center)
        return self._reachable(x, center)

    def _reachable(self, x: np.ndarray, center: np.ndarray) -> np.ndarray:
        """The nearest points of the box and the grid, in float32."""
        if self.grid is not None:
            steps = np.round((x - center) / self.grid)
            x = points_inside(self.value_range, center, steps, self.grid)
        clipped: np.ndarray = np.clip(x, *self.value_range).astype("float32")
        return clipped

    def _ask(
        self,
        rows: _Rows,
        index: np.ndarray,
        x: np.ndarray,
        used: np.ndarray,
    ) -> np.ndarray:
        """Whether a point of each example is adversarial; counts queries."""
        used[index] += 1
        return self.decide(x, rows.y[index], rows.held_of(index))

    def _distance(self, x: np.ndarray, center: np.ndarray) -> np.ndarray:
        return distances(x, center, self.ball.name).astype("float32")

    def _tolerance(self, rows: _Rows) -> float:
        """Theta of the paper: how exactly the boundary is bisected."""
        size = math.prod(rows.center.shape[1:])
        theta = size**-1.5 if self.ball.name == "l2" else size**-2.0
        return max(theta, _FINEST_BISECTION)

    def _bisection_steps(self, rows: _Rows) -> int:
        return max(math.ceil(-math.log2(self._tolerance(rows))), 1)

    def _bisect(
        self,
        rows: _Rows,
        index: np.ndarray,
        x: np.ndarray,
        used: np.ndarray,
    ) -> np.ndarray:
        """Adversarial points next to the boundary, between image and `x`."""
        center, best = rows.center[index], x.copy()
        step = x - center
        reach = np.abs(step).max(tuple(range(1, x.ndim)), initial=0.0)
        low, high = np.zeros(len(x)), np.ones(len(x))
        for _ in range(self._bisection_steps(rows)):
            open_ = np.flatnonzero(used[index] < self.queries)
            if not len(open_):
                break
            middle = (low + high)[open_] / 2
            share = _column(middle, step)
            if self.ball.name == "l2":
                delta = share * step[open_]
            else:
                limit = share * _column(reach[open_], step)
                delta = np.clip(step[open_], -limit, limit)
            points = self._reachable(center[open_] + delta, center[open_])
            right = self._ask(rows, index[open_], points, used)
            best[open_[right]] = points[right]
            high[open_[right]] = middle[right]
            low[open_[~right]] = middle[~right]
        return best

    def _probe_length(
        self, rows: _Rows, distance: np.ndarray, first: bool
    ) -> np.ndarray:
        """L2 lengths of the probes: delta_t of the paper."""
        size = math.prod(rows.center.shape[1:])
        smallest = math.sqrt(size) * _SMALLEST_CHANGE * self.unit
        if self.grid is not None:
            # A shorter one would be rounded away.
            smallest = math.sqrt(size) * self.grid
        if first:
            return np.full(len(distance), max(0.1 * self.unit, smallest))
        # In both norms theta is such that this is the distance by the size.
        return np.maximum(distance.astype("float64") / size, smallest)

    def _direction(
        self,
        rows: _Rows,
        index: np.ndarray,
        x: np.ndarray,
        length: np.ndarray,
        probes: np.ndarray,
        number: int,
    ) -> np.ndarray:
        """Steps of norm 1 away from the boundary, by random probes.

        Equation 13 of the paper: the mean of the probes, each with the sign of
        its answer less the mean sign, which lowers the variance.
        """
        total = np.zeros(x.shape, "float64")
        signed = np.zeros(x.shape, "float64")
        signs = np.zeros(len(index))
        for group in self._probe_groups(rows, index, probes, number):
            places = np.concatenate(
                [np.full(len(noise), place) for place, noise in group]
            )
            noise = np.concatenate([noise for _, noise in group])
            centers = x[places]
            points = self._probe_points(
                rows, index[places], centers, noise, length[places]
            )
            chosen = index[places]
            answer = self.decide(points, rows.y[chosen], rows.held_of(chosen))
            sign = np.where(answer, 1.0, -1.0)
            change = points.astype("float64") - centers
            start = 0
            # Block by block, so that rounding does not depend on the groups.
            for place, block in group:
                part = slice(start, start + len(block))
                start += len(block)
                total[place] += change[part].sum(0)
                signed[place] += (_column(sign[part], x) * change[part]).sum(0)
                signs[place] += sign[part].sum()
        mean = signs / np.maximum(probes, 1)
        one_sided = _column(np.abs(mean) == 1, x)
        mean = _column(mean, x)
        gradient = np.where(one_sided, mean * total, signed - mean * total)
        if self.ball.name == "linf":
            return np.sign(gradient)
        norm = np.linalg.norm(gradient.reshape(len(x), -1), axis=1)
        return gradient / _column(np.where(norm > 0, norm, 1.0), x)

    def _probe_points(
        self,
        rows: _Rows,
        index: np.ndarray,
        x: np.ndarray,
        noise: np.ndarray,
        length: np.ndarray,
    ) -> np.ndarray:
        """Points at a distance from `x`, in directions of noise."""
        if rows.mask is not None:
            noise = noise * (rows.mask[index] > 0)
        norm = np.linalg.norm(noise.reshape(len(noise), -1), axis=1)
        scale = length / np.where(norm > 0, norm, 1.0)
        moved = x + _column(scale, noise) * noise
        return self._reachable(moved, rows.center[index])

    def _probe_groups(
        self,
        rows: _Rows,
        index: np.ndarray,
        probes: np.ndarray,
        number: int,
    ) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Blocks of noise for each example, grouped to batches of images."""
        group: list[tuple[int, np.ndarray]] = []
        shape = rows.center.shape[1:]
        for place, row in enumerate(rows.row[index]):
            random = generator(self.seed, int(row), number)
            for start in range(0, int(probes[place]), _BLOCK):
                count = min(_BLOCK, int(probes[place]) - start)
                if self.ball.name == "l2":
                    noise = random.standard_normal((count, *shape))
                else:
                    noise = random.uniform(-1, 1, (count, *shape))
                images = sum(len(block) for _, block in group)
                if group and images + count > self.decide.size:
                    yield group
                    group = []
                group.append((place, noise))
        if group:
            yield group

    def _advance_points(
        self,
        rows: _Rows,
        index: np.ndarray,
        x: np.ndarray,
        direction: np.ndarray,
        length: np.ndarray,
        used: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move along a direction, half as far until it is adversarial."""
        moved, found = x.copy(), np.zeros(len(x), bool)
        for halving in range(_MOST_HALVINGS):
            reserve = self._bisection_steps(rows)
            left = used[index] + reserve < self.queries
            open_ = np.flatnonzero(~found & left)
            if not len(open_):
                break
            step = _column(length[open_] / 2**halving, x) * direction[open_]
            points = self._reachable(x[open_] + step, rows.center[index[open_]])
            right = self._ask(rows, index[open_], points, used)
            moved[open_[right]] = points[right]
            found[open_[right]] = True
        return moved, found


def _column(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`(n,)` as `(n, 1, ..., 1)`."""
    return values.reshape((-1,) + (1,) * (like.ndim - 1))
