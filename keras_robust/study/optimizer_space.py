"""What an optimizer search searches."""

from dataclasses import dataclass
from dataclasses import field
from typing import Any

import keras

from keras_robust.messages import shown
from keras_robust.study.optimizers import make_schedule

OPTIMIZERS = ("sgd", "sgdw", "adam", "adamw")
# Whose weight decay is subtracted from the weights, where the others have it
# in the loss (as PyTorch's SGD, and so the paper's).
DECOUPLED = ("sgdw", "adamw")


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
        schedules: Of `optimizers.SCHEDULES`.
        batch_sizes: Ints.
        augment: Whether to shift and flip.
        networks: `[function of models, options]` by name.
    """

    learning_rates: dict = field(
        default_factory=lambda: {
            "sgd": (0.01, 1.0),
            "sgdw": (0.01, 1.0),
            "adam": (1e-4, 1e-2),
            "adamw": (1e-4, 1e-2),
        }
    )
    learning_rate_factor: float = 10**0.5
    momenta: tuple = (0.9,)
    nesterov: tuple = (False,)
    weight_decays: tuple = (5e-4,)
    schedules: tuple = ("one_cycle",)
    batch_sizes: tuple = (128,)
    augment: tuple = (False,)
    networks: dict = field(default_factory=dict)

    def __post_init__(self):
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

    def choose(self, hp: Any) -> dict:
        """A setting.

        Args:
            hp: `keras_tuner.HyperParameters`.

        Returns:
            Dictionary: `optimizer`, `learning_rate`, `momentum` and `nesterov`
            (of SGD), `weight_decay`, `schedule`, `batch_size`, `augment`,
            `network`.
        """
        optimizer = hp.Choice("optimizer", list(self.learning_rates))
        setting = {"optimizer": optimizer}
        for name, (low, high) in self.learning_rates.items():
            with hp.conditional_scope("optimizer", [name]):
                if optimizer == name:
                    setting |= self._of_optimizer(hp, name, low, high)
        setting["weight_decay"] = hp.Choice(
            "weight_decay", list(self.weight_decays)
        )
        setting["schedule"] = hp.Choice("schedule", list(self.schedules))
        setting["batch_size"] = hp.Choice("batch_size", list(self.batch_sizes))
        setting["augment"] = bool(hp.Choice("augment", list(self.augment)))
        setting["network"] = hp.Choice("network", list(self.networks))
        return setting

    def _of_optimizer(self, hp, name, low, high):
        chosen = {
            "learning_rate": hp.Float(
                f"{name}_learning_rate",
                low,
                high,
                step=self.learning_rate_factor,
                sampling="log",
            )
        }
        if name.startswith("sgd"):
            chosen["momentum"] = hp.Choice(
                f"{name}_momentum", list(self.momenta)
            )
            chosen["nesterov"] = bool(
                hp.Choice(f"{name}_nesterov", list(self.nesterov))
            )
        return chosen


def optimizer_of(setting: Any, steps: int) -> Any:
    """The optimizer of a setting.

    Args:
        setting: What `OptimizerSpace.choose` returns.
        steps: Int, how many steps the training has.

    Returns:
        `keras.optimizers.Optimizer`.
    """
    name = setting["optimizer"]
    rate = make_schedule(setting["schedule"], setting["learning_rate"], steps)
    decay = setting["weight_decay"] if name in DECOUPLED else None
    if name.startswith("sgd"):
        return keras.optimizers.SGD(
            rate,
            momentum=setting["momentum"],
            nesterov=setting["nesterov"] and setting["momentum"] > 0,
            weight_decay=decay,
        )
    if name == "adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.AdamW(rate, weight_decay=decay)


def l2_of(setting: Any) -> Any:
    """The weight decay that a network has in its loss."""
    if setting["optimizer"] in DECOUPLED:
        return 0.0
    return setting["weight_decay"]
