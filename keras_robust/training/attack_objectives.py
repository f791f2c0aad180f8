"""Objectives of attacks in training, besides those of the attacks."""

from typing import Any

from keras import ops

from keras_robust.attacks.compiled_objective import CompiledObjective
from keras_robust.attacks.compiled_objective import soft_log_odds
from keras_robust.attacks.engine.hook_checks import check_values
from keras_robust.attacks.objectives import is_predicted
from keras_robust.classifier import cached_weights
from keras_robust.classifier.head import as_logits


class SoftObjective:
    """Log-odds of one-hot labels, cross-entropy of soft ones.

    Args:
        logits: `(x, draw, held) -> (N, C)`.
        targeted: Whether the labels are targets.
    """

    def __init__(self, logits: Any, targeted: bool) -> None:
        self.logits = logits
        self.targeted = targeted

    def cached_weights(self) -> Any:
        """A context in which folded weights are computed once for all calls."""
        return cached_weights(self.logits)

    def __call__(self, inputs: dict[str, Any], x: Any) -> tuple[Any, Any]:
        """Values `(N,)` to increase at `x`, and where the attack succeeds."""
        y = inputs["y"]
        logits = self.logits(x, inputs.get("draw"), inputs.get("held"))
        values = soft_log_odds(y, logits)
        hit = is_predicted(ops.cast(ops.argmax(y, axis=-1), "int32"), logits)
        if self.targeted:
            return -values, hit
        return values, ops.logical_not(hit)


class ClassObjective(CompiledObjective):
    """The compiled loss for class labels; a wrong class is a success."""

    def success(self, inputs: dict[str, Any], found: list[Any]) -> Any:
        """Where the label is not predicted; with `targeted`, where it is."""
        (part,), (raw,) = self.loss.parts, found
        y = self.loss.labels(inputs["y"], part)
        is_column = len(y.shape) == 1 or y.shape[-1] == 1
        logits = as_logits(raw.values, raw.kind is None and _is_unit(raw))
        labels = ops.reshape(y, (-1,)) if is_column else ops.argmax(y, axis=-1)
        hit = is_predicted(ops.cast(labels, "int32"), logits)
        return hit if self.targeted else ops.logical_not(hit)


class LogProbabilities:
    """Logarithms of the probabilities that logits stand for.

    Of a model that ends in probabilities an objective gets these, since its
    outputs do not tell the logits.

    Args:
        logits: `(x, draw, held) -> (N, C)`.
    """

    def __init__(self, logits: Any) -> None:
        self.logits = logits

    def cached_weights(self) -> Any:
        """A context in which folded weights are computed once for all calls."""
        return cached_weights(self.logits)

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """Tensor `(N, C)`."""
        return ops.log_softmax(self.logits(x, draw, held))


class CleanObjective:
    """A divergence of the logits from those for the unperturbed images.

    Args:
        logits: `(x, draw, held) -> (N, C)`.
        divergence: `(clean, logits) -> (N,)`.
    """

    def __init__(self, logits: Any, divergence: Any) -> None:
        self.logits = logits
        self.divergence = divergence

    def cached_weights(self) -> Any:
        """A context in which folded weights are computed once for all calls."""
        return cached_weights(self.logits)

    def __call__(self, inputs: dict[str, Any], x: Any) -> tuple[Any, Any]:
        """Values `(N,)` to increase at `x`, and where the class changes.

        Args:
            inputs: Dictionary with `y`, the logits for the unperturbed images.
            x: Tensor `(N, ...)`.
        """
        clean = inputs["y"]
        logits = self.logits(x, inputs.get("draw"), inputs.get("held"))
        values = check_values("attack_loss", self.divergence(clean, logits), x)
        before = ops.cast(ops.argmax(clean, axis=-1), "int32")
        return values, ops.logical_not(is_predicted(before, logits))


def _is_unit(raw: Any) -> bool:
    """Whether the output is a single probability, of the second class."""
    return raw.values.shape[-1] == 1
