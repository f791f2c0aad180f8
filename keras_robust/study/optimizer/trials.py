"""What an optimizer search tries, and what it finds out, as plain values."""

from typing import Any
from typing import NotRequired
from typing import TypedDict


class Setting(TypedDict):
    """How a network is trained: one choice from an `OptimizerSpace`.

    An optimizer of a function `(hp, steps)` has the values that it has chosen
    besides, and the learning rate only if it is one of them.

    Attributes:
        optimizer: Its name.
        learning_rate: Its peak.
        momentum: Of SGD only.
        nesterov: Of SGD only.
        weight_decay: In the loss, or decoupled for `sgdw` and `adamw`.
        schedule: One of `training.SCHEDULES`.
        batch_size: Int.
        augment: Whether to shift and flip.
        network: Name in the space.
    """

    optimizer: str
    learning_rate: NotRequired[float]
    momentum: NotRequired[float]
    nesterov: NotRequired[bool]
    weight_decay: float
    schedule: str
    batch_size: int
    augment: bool
    network: str


class Trained(TypedDict):
    """The results of one training.

    Attributes:
        val_accuracy: Clean accuracy after the last epoch, like the next two.
        train_accuracy: On what was trained on.
        test_accuracy: On clean test images.
        outcome: See `PlateauMonitor`, like the next three.
        escape_epoch: From 1, or `None`.
        memorization_gap: Training minus validation accuracy.
        curve: One number per epoch, by metric.
        val_robust_accuracy: Only of a search with `epsilon`.
        stopped_epoch: After which a hopeless training was stopped, from 1, or
            `None`; only of a search that stops them.
    """

    val_accuracy: float
    train_accuracy: float
    test_accuracy: float
    outcome: str | None
    escape_epoch: int | None
    memorization_gap: float | None
    curve: dict[str, list[float]]
    val_robust_accuracy: NotRequired[float]
    stopped_epoch: NotRequired[int | None]


class Trial(Setting, Trained):
    """A training of one setting with one seed."""

    epochs: int
    seed: int


class Best(TypedDict):
    """The best setting of an optimizer.

    Attributes:
        setting: All its factors.
        test_accuracy: Mean over seeds.
        interval: 95 % t-interval of the mean; `None` for one seed.
        outcomes: Of each seed.
    """

    setting: dict[str, Any]
    test_accuracy: float
    interval: list[float] | None
    outcomes: list[str | None]


class AtEqualAccuracy(TypedDict):
    """Trainings of an optimizer within a narrow range of clean accuracy."""

    trainings: int
    val_accuracy: float | None
    val_robust_accuracy: float | None


class Findings(TypedDict):
    """What the trainings of a search show, see `summary`.

    Attributes:
        runs: All trainings.
        best: By optimizer.
        outcomes: Counts by optimizer and outcome.
        variance_explained: Shares by factor.
        seed_agreement: Share of settings whose seeds had the same outcome.
        robustness: By optimizer; only of a search with `epsilon`.
    """

    runs: list[Trial]
    best: dict[str, Best]
    outcomes: dict[str, dict[str, int]]
    variance_explained: dict[str, float]
    seed_agreement: float
    robustness: NotRequired[dict[str, AtEqualAccuracy]]


class Summary(Findings):
    """Findings, with a paragraph that sums them up."""

    verdict: str


class SearchResults(Summary):
    """The content of a search's `results.json`.

    Attributes:
        search: The arguments of the search, see `sweep`.
        machine: Number and name of the processors.
        versions: By package.
        hours_of_this_call: Since the last stop.
    """

    search: dict[str, Any]
    machine: str
    versions: dict[str, str]
    hours_of_this_call: float
