"""Thresholds that robust accuracy must reach, for tests and pipelines."""

from abc import abstractmethod
from typing import NamedTuple

from keras_robust.evaluation.result import EvaluationResult
from keras_robust.utils.messages import shown


class RobustAccuracy(NamedTuple):
    """The figure by which a model passes or fails.

    Attributes:
        meaning: What it is, for messages.
        accuracy: Share in [0, 1].
        interval: `(low, high)`, its 95 % interval; `None` for a mean.
    """

    meaning: str
    accuracy: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        text = f"{self.accuracy:.2%}"
        if self.interval is not None:
            low, high = self.interval
            text += f" (95 % interval {low:.2%} to {high:.2%})"
        return f"{text}, {self.meaning}"


class GatedResult(EvaluationResult):
    """Base class for results that a test or a pipeline can hold a model to."""

    @abstractmethod
    def robust_accuracy(self) -> RobustAccuracy:
        """The figure by which a model passes or fails."""

    def check(
        self,
        at_least: float | None = None,
        interval_at_least: float | None = None,
        no_flags: bool = False,
    ) -> None:
        """Raise unless the model is as robust as it must be.

        Made for tests: pytest shows the message. At least one condition must
        be given.

        Args:
            at_least: Share in [0, 1] that robust accuracy must reach: of a
                report the worst case over all attacks, of a curve that at the
                largest radius; with corruptions and no attacks the mean over
                corruptions.
            interval_at_least: Share in [0, 1] that the lower end of its 95 %
                interval must reach. With few examples the interval is wide.
            no_flags: Whether any flag is a failure: a reason to doubt the
                numbers.

        Raises:
            AssertionError: If robust accuracy is lower, or there are flags.
            ValueError: If no condition is given, or a share is not in [0, 1].

        Example:

        ```python
        report.check(at_least=0.4)
        ```
        """
        if at_least is None and interval_at_least is None and not no_flags:
            raise ValueError(
                "A check must have a condition, which a model can fail: "
                "`at_least`, `interval_at_least` or `no_flags=True`. "
                "Received: none of them"
            )
        failures = self.failures(at_least, interval_at_least)
        if no_flags:
            failures += [f"flag {flag}" for flag in self.flags]
        if failures:
            raise AssertionError("; ".join(failures))

    def failures(
        self,
        at_least: float | None = None,
        interval_at_least: float | None = None,
    ) -> list[str]:
        """What of `check` does not hold, flags apart, as sentences.

        Args:
            at_least: As in `check`.
            interval_at_least: As in `check`.

        Returns:
            List of strings, empty if all holds.
        """
        found = self.robust_accuracy()
        failures = []
        if at_least is not None:
            _check_share(at_least, "at_least")
            if not found.accuracy >= at_least:
                failures.append(
                    f"Robust accuracy must be at least {at_least:.2%}. "
                    f"Received: {found}"
                )
        if interval_at_least is not None:
            _check_share(interval_at_least, "interval_at_least")
            if found.interval is None:
                raise ValueError(
                    "Argument `interval_at_least` must come with attacks: "
                    "there is no interval for the mean over corruptions. "
                    f"Received: interval_at_least={interval_at_least}"
                )
            if not found.interval[0] >= interval_at_least:
                failures.append(
                    "The lower end of the interval of robust accuracy must be "
                    f"at least {interval_at_least:.2%}. Received: {found}"
                )
        return failures


def _check_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise ValueError(
            f"Argument `{name}` must be a share in [0, 1], such as 0.4 for "
            f"40 %. Received: {name}={shown(value)}"
        )
