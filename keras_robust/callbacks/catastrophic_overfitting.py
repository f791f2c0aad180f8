"""Watches for the collapse of one-step adversarial training."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_robust.attacks import Attack
from keras_robust.attacks import NFGSMAttack
from keras_robust.attacks import PGDAttack
from keras_robust.utils import checks
from keras_robust.utils.messages import shown

_ACTIONS = ("warn", "stop", "restore")


class CatastrophicOverfitting(keras.callbacks.Callback):
    """Attack a few images by PGD after each epoch, and report a collapse.

    In one-step adversarial training the accuracy under PGD can fall to zero
    within an epoch, while that under the training attack rises (Wong et al.
    2020, arXiv:2001.03994, section 5). The training loss does not show it.

    Logs `pgd_accuracy`, which `keras.callbacks.History` keeps.

    Args:
        x: Array, some dozens of held-out images; for a model with several
            inputs a dictionary of arrays.
        y: Their labels, integers `(N,)` or one-hot; for a model with several
            outputs those of the one that is classified.
        attack: The attack; `None` for ten steps of PGD with random start, with
            the norm, radius and value range of the `AdversarialModel`'s.
        drop: Float in (0, 1]; the accuracy under attack has collapsed once this
            share of the best epoch's is lost, and more than two standard
            errors of that. The best one must have been above that of guessing.
        action: What to do then: `"warn"`, `"stop"` training, or `"restore"`:
            stop and restore the weights of the best epoch.

    Attributes:
        accuracies: The accuracy under attack after each epoch.
        best_epoch: The epoch with the highest one, counted from 0 as in all
            callbacks; the warning counts from 1, as the log of `fit` does.
        collapsed_epoch: The first epoch after the collapse, or `None`.

    Example:

    ```python
    watch = keras_robust.callbacks.CatastrophicOverfitting(
        x_held_out[:100], y_held_out[:100], action="restore"
    )
    robust.fit(x, y, epochs=30, callbacks=[watch])
    ```

    Raises:
        ValueError: If an argument is not as above.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        attack: Attack | None = None,
        drop: float = 0.5,
        action: str = "warn",
    ) -> None:
        super().__init__()
        parts = list(x.values()) if isinstance(x, dict) else [x]
        counts = {len(part) for part in parts}
        if not len(y) or counts != {len(y)}:
            raise ValueError(
                "Arguments `x` and `y` must hold the same number of images "
                "and labels, at least one. "
                f"Received: {sorted(counts)} and {len(y)}"
            )
        if attack is not None and not isinstance(attack, Attack):
            raise ValueError(
                "Argument `attack` must be an attack or None. "
                f"Received: attack={shown(attack)}"
            )
        if action not in _ACTIONS:
            raise ValueError(
                f"Argument `action` must be one of {_ACTIONS}. "
                f"Received: action={shown(action)}"
            )
        self.x, self.y = x, y
        self.attack = attack
        self.drop = checks.check_number(drop, "drop", most=1, positive=True)
        self.action = action
        self.accuracies: list[float] = []
        self.best_epoch: int | None = None
        self.collapsed_epoch: int | None = None
        self._best_weights: Any = None
        self._used_attack = attack

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget an earlier training, and choose the attack."""
        self.accuracies, self._best_weights = [], None
        self.best_epoch = self.collapsed_epoch = None
        self._used_attack = self.attack or self._own_attack()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Attack the images, and compare with the best epoch."""
        accuracy = self._accuracy()
        best = max(self.accuracies, default=-1.0)
        self.accuracies.append(accuracy)
        if logs is not None:
            logs["pgd_accuracy"] = accuracy
        if accuracy > best:
            self.best_epoch = epoch
            if self.action == "restore":
                self._best_weights = self.model.get_weights()
        elif self.collapsed_epoch is None and self._is_collapse(best, accuracy):
            self.collapsed_epoch = epoch
            self._report(epoch, best, accuracy)
            if self.action != "warn":
                self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Restore the weights of the best epoch after a collapse."""
        # Here, because optimizers with averages set weights before it.
        if self.action == "restore" and self.collapsed_epoch is not None:
            self.model.set_weights(self._best_weights)
        self._best_weights = None

    def _is_collapse(self, best: float, accuracy: float) -> bool:
        error = np.sqrt(best * (1 - best) / len(self.y))
        fall = best - accuracy
        # A network that guesses has nothing to lose.
        had_learned = best > self._guessing()
        return bool(
            had_learned and fall >= self.drop * best and fall > 2 * error
        )

    def _guessing(self) -> float:
        """The accuracy of guessing one of the classes there are."""
        y = np.asarray(self.y)
        is_one_hot = y.ndim > 1 and y.shape[-1] > 1
        classes = y.shape[-1] if is_one_hot else len(np.unique(y))
        return 1 / max(classes, 2)

    def _report(self, epoch: int, best: float, accuracy: float) -> None:
        best_epoch = (self.best_epoch or 0) + 1
        done = {
            "warn": "Training goes on.",
            "stop": "Training stops.",
            "restore": f"Training stops; the weights of epoch {best_epoch} "
            "are restored.",
        }[self.action]
        trained = getattr(self.model, "attack", None)
        noise = "" if isinstance(trained, NFGSMAttack) else "NFGSMAttack, "
        warnings.warn(
            "Catastrophic overfitting: the accuracy under PGD fell from "
            f"{best:.0%} after epoch {best_epoch} to {accuracy:.0%} after "
            f"epoch {epoch + 1}. {done} {noise}more steps or a smaller "
            "radius prevent it.",
            UserWarning,
            stacklevel=2,
        )

    def _accuracy(self) -> float:
        """The share of images whose label the model still predicts."""
        attack = self._used_attack or self._own_attack()
        model = getattr(self.model, "attacked_model", self.model)
        found = attack.run(model, self.x, self.y, verbose=0, scored=True)
        return float(1 - np.mean(found["success"]))

    def _own_attack(self) -> PGDAttack:
        trained: Any = getattr(self.model, "attack_in_numbers", None)
        if trained is None or not hasattr(trained, "norm"):
            raise ValueError(
                "Argument `attack` must be an attack where the model is not "
                "an AdversarialModel, or its attack has no norm. "
                f"Received: attack=None, model "
                f"{self.model.name!r} of type {type(self.model).__name__}"
            )
        return PGDAttack(
            norm=trained.norm,
            epsilon=trained.epsilon,
            steps=10,
            random_start=True,
            seed=0,
            value_range=trained.value_range,
            mask=getattr(trained, "mask", None),
            from_logits=trained.from_logits,
            attacked=self.model.attacked_input,
            output=self.model.classified_output,
        )
