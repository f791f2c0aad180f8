"""The settings that an optimizer search chooses from."""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import cast

import keras
import keras_tuner

from keras_robust.study.optimizer.own_optimizer import AskedFor
from keras_robust.study.optimizer.own_optimizer import check_name
from keras_robust.study.optimizer.own_optimizer import keras_optimizers
from keras_robust.study.optimizer.own_optimizer import takes
from keras_robust.study.optimizer.trials import Setting
from keras_robust.study.training import SCHEDULES
from keras_robust.study.training import make_schedule
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

OPTIMIZERS = ("sgd", "sgdw", "adam", "adamw")
WITH_MOMENTUM = ("sgd", "sgdw")
# These have weight decay in the loss, like PyTorch's SGD and so the paper's.
# Others subtract it from the weights.
_IN_THE_LOSS = ("sgd", "adam")
# Names that hyperparameters of one's own cannot have.
_TAKEN = (
    "optimizer",
    "weight_decay",
    "schedule",
    "batch_size",
    "augment",
    "network",
    "epochs",
    "seed",
)
Range = tuple[float, float]


@dataclass(frozen=True)
class OptimizerSpace:
    """The values that an `OptimizerSearch` may choose from.

    Attributes:
        learning_rates: `(smallest, largest)` peak learning rate by optimizer;
            its keys are the optimizers: `"sgd"`, `"sgdw"`, `"adam"`,
            `"adamw"`, another one of Keras such as `"lion"` or `"muon"`, or
            one of `makers`.
        makers: Optimizers of one's own by name. One with a range in
            `learning_rates` is a class of Keras or a function `learning_rate
            -> optimizer`, which gets a schedule and, if it has the argument,
            `weight_decay`. One whose range is `None` is a function `(hp,
            steps) -> optimizer`, as in a `keras_tuner.HyperModel`: it chooses
            by `hp.Float("learning_rate", 1e-5, 1e-3, sampling="log")`, ...,
            and has the number of steps for a schedule of its own.
        learning_rate_factor: Float > 1, between two neighbours.
        momenta: Of SGD.
        nesterov: Of SGD with momentum.
        weight_decays: Floats >= 0; L2 in the loss for `sgd`, `adam` and
            functions without the argument `weight_decay`; decoupled for
            others. Not of functions `(hp, steps)`.
        schedules: Of `training.SCHEDULES`.
        batch_sizes: Ints.
        augment: Whether to shift and flip.
        networks: By name, `[function of models, options]`, or a function
            that returns a new, built Keras classifier. L2 in the loss is then
            its argument `weight_decay`.
    """

    learning_rates: dict[str, Range | None] = field(
        default_factory=lambda: {
            "sgd": (0.01, 1.0),
            "sgdw": (0.01, 1.0),
            "adam": (1e-4, 1e-2),
            "adamw": (1e-4, 1e-2),
        }
    )
    learning_rate_factor: float = 10**0.5
    momenta: tuple[float, ...] = (0.9,)
    nesterov: tuple[bool, ...] = (False,)
    weight_decays: tuple[float, ...] = (5e-4,)
    schedules: tuple[str, ...] = ("one_cycle",)
    batch_sizes: tuple[int, ...] = (128,)
    augment: tuple[bool, ...] = (False,)
    networks: dict[str, Any] = field(default_factory=dict)
    makers: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.learning_rates or not self.networks:
            raise ValueError(
                "A space must have networks, and learning rates of optimizers. "
                f"Received: networks={list(self.networks)}, "
                f"learning_rates={shown(self.learning_rates)}"
            )
        for name, ends in self.learning_rates.items():
            if name not in self.makers:
                check_name(name, OPTIMIZERS)
            if name not in self.makers or ends is not None:
                _check_range(name, ends)
        for schedule in self.schedules:
            if schedule not in SCHEDULES:
                raise ValueError(
                    f"Schedules must be of {SCHEDULES}."
                    f"{did_you_mean(schedule, SCHEDULES)} "
                    f"Received: schedules={shown(self.schedules)}"
                )
        for size in self.batch_sizes:
            check_positive_integer(size, "batch_sizes")
        if not self.learning_rate_factor > 1:
            raise ValueError(
                "Argument `learning_rate_factor` must be > 1. Received: "
                f"learning_rate_factor={shown(self.learning_rate_factor)}"
            )

    def choose(self, hp: keras_tuner.HyperParameters) -> Setting:
        """Choose a setting.

        Args:
            hp: Hyperparameters of a tuner, which decides.
        """
        optimizer = hp.Choice("optimizer", list(self.learning_rates))
        chosen: dict[str, Any] = {"optimizer": optimizer}
        for name in self.learning_rates:
            with hp.conditional_scope("optimizer", [name]):
                if optimizer == name:
                    chosen |= self._choose_for(hp, name)
        chosen |= {
            "weight_decay": hp.Choice("weight_decay", list(self.weight_decays)),
            "schedule": hp.Choice("schedule", list(self.schedules)),
            "batch_size": hp.Choice("batch_size", list(self.batch_sizes)),
            "augment": bool(hp.Choice("augment", list(self.augment))),
            "network": hp.Choice("network", list(self.networks)),
        }
        return cast(Setting, chosen)

    def _choose_for(
        self, hp: keras_tuner.HyperParameters, optimizer: str
    ) -> dict[str, Any]:
        """Choose what only this optimizer has."""
        ends = self.learning_rates[optimizer]
        if ends is None:
            return self._asked_for(hp, optimizer)
        low, high = ends
        chosen = {
            "learning_rate": hp.Float(
                f"{optimizer}_learning_rate",
                low,
                high,
                step=self.learning_rate_factor,
                sampling="log",
            )
        }
        if optimizer in WITH_MOMENTUM:
            chosen["momentum"] = hp.Choice(
                f"{optimizer}_momentum", list(self.momenta)
            )
            chosen["nesterov"] = bool(
                hp.Choice(f"{optimizer}_nesterov", list(self.nesterov))
            )
        return chosen

    def _asked_for(
        self, hp: keras_tuner.HyperParameters, optimizer: str
    ) -> dict[str, Any]:
        """Choose what a function `(hp, steps)` asks for."""
        asked = AskedFor.of(hp, optimizer)
        # The optimizer itself is made again for each training.
        self.makers[optimizer](asked, 1)
        taken = sorted(set(asked.values) & set(_TAKEN))
        if taken:
            raise ValueError(
                "Hyperparameters of an optimizer must have other names than "
                f"those of the search, {_TAKEN}. Received: {taken} of "
                f"{optimizer!r}"
            )
        return asked.values

    def optimizer(self, setting: Setting, steps: int) -> Any:
        """Make the optimizer of a setting.

        Args:
            setting: What `choose` returned.
            steps: How many steps the training has.

        Returns:
            `keras.optimizers.Optimizer`.
        """
        name = setting["optimizer"]
        if self.learning_rates.get(name, ()) is None:
            return self.makers[name](AskedFor.again({**setting}), steps)
        peak = setting["learning_rate"]
        rate = make_schedule(setting["schedule"], peak, steps)
        decay = setting["weight_decay"] if self._is_decoupled(name) else None
        if name in self.makers:
            options = {} if decay is None else {"weight_decay": decay}
            return self.makers[name](learning_rate=rate, **options)
        if name in WITH_MOMENTUM:
            return keras.optimizers.SGD(
                rate,
                momentum=setting["momentum"],
                nesterov=setting["nesterov"] and setting["momentum"] > 0,
                weight_decay=decay,
            )
        return keras_optimizers()[name](rate, weight_decay=decay)

    def l2(self, setting: Setting) -> float:
        """The weight decay that a network has in its loss.

        Args:
            setting: What `choose` returned.
        """
        name = setting["optimizer"]
        if self.learning_rates.get(name, ()) is None:
            return 0.0
        return 0.0 if self._is_decoupled(name) else setting["weight_decay"]

    def _is_decoupled(self, name: str) -> bool:
        """Whether weight decay is subtracted from the weights."""
        if name in self.makers:
            return takes(self.makers[name], "weight_decay")
        return name not in _IN_THE_LOSS

    def check_networks(self) -> None:
        """Raise where weight decay would be left out without a word.

        Raises:
            ValueError: If a network that a function makes has no argument
                `weight_decay`, and an optimizer has it in the loss.
        """
        in_loss = [
            name
            for name, ends in self.learning_rates.items()
            if ends is not None and not self._is_decoupled(name)
        ]
        own = [
            name
            for name, network in self.networks.items()
            if callable(network) and not takes(network, "weight_decay")
        ]
        if in_loss and own and any(self.weight_decays):
            raise ValueError(
                "Networks of your own must have an argument `weight_decay` "
                f"with the optimizers {in_loss}, which have it in the loss; or "
                "`weight_decays` be (0.0,). Received: networks "
                f"{own} without it, weight_decays={self.weight_decays}"
            )


def _check_range(name: str, ends: Any) -> None:
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 < low <= high < float("inf"):
        raise ValueError(
            "Learning rates must be (smallest, largest), two numbers > 0. "
            f"Received: {shown(ends)} for {name!r}"
        )
