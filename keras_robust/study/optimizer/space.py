"""The settings that an optimizer search chooses from."""

from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import cast

import keras
import keras_tuner

from keras_robust.study.optimizer.trials import Setting
from keras_robust.study.training import make_schedule
from keras_robust.utils.messages import shown

OPTIMIZERS = ("sgd", "sgdw", "adam", "adamw")
# These subtract weight decay from the weights. The others have it in the loss,
# like PyTorch's SGD and so the paper's.
DECOUPLED = ("sgdw", "adamw")
WITH_MOMENTUM = ("sgd", "sgdw")


@dataclass(frozen=True)
class OptimizerSpace:
    """The values that an `OptimizerSearch` may choose from.

    Attributes:
        learning_rates: `(smallest, largest)` peak learning rate by optimizer;
            its keys, of `OPTIMIZERS`, are the optimizers.
        learning_rate_factor: Float > 1, between two neighbours.
        momenta: Of SGD.
        nesterov: Of SGD with momentum.
        weight_decays: Floats >= 0; L2 in the loss for `sgd` and `adam`,
            decoupled for `sgdw` and `adamw`.
        schedules: Of `training.SCHEDULES`.
        batch_sizes: Ints.
        augment: Whether to shift and flip.
        networks: `[function of models, options]` by name.
    """

    learning_rates: dict[str, tuple[float, float]] = field(
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
    networks: dict[str, tuple[str, dict[str, Any]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        unknown = set(self.learning_rates) - set(OPTIMIZERS)
        if unknown or not self.learning_rates or not self.networks:
            raise ValueError(
                "A space must have networks, and learning rates of optimizers "
                f"in {OPTIMIZERS}. Received: networks={list(self.networks)}, "
                f"learning_rates={shown(self.learning_rates)}"
            )
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
        low, high = self.learning_rates[optimizer]
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


def optimizer_of(setting: Setting, steps: int) -> keras.optimizers.Optimizer:
    """Make the optimizer of a setting.

    Args:
        setting: What `OptimizerSpace.choose` returns.
        steps: How many steps the training has.
    """
    name = setting["optimizer"]
    rate = make_schedule(setting["schedule"], setting["learning_rate"], steps)
    decay = setting["weight_decay"] if name in DECOUPLED else None
    if name in WITH_MOMENTUM:
        return keras.optimizers.SGD(
            rate,
            momentum=setting["momentum"],
            nesterov=setting["nesterov"] and setting["momentum"] > 0,
            weight_decay=decay,
        )
    if name == "adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.AdamW(rate, weight_decay=decay)


def l2_of(setting: Setting) -> float:
    """The weight decay that a network has in its loss."""
    if setting["optimizer"] in DECOUPLED:
        return 0.0
    return setting["weight_decay"]
