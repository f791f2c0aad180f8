"""What an attack increases: one number per example."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_robust.attacks.engine.hook_checks import check_values
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.classifier import cached_weights
from keras_robust.utils.messages import shown

# Stands for minus infinity where the label's own logit is left out.
_LEFT_OUT = -1e30


def _split(y: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The label's logit, and the logits with the label's left out."""
    logits = ops.cast(logits, "float32")
    own = ops.equal(ops.arange(logits.shape[-1], dtype=y.dtype), y[:, None])
    others = ops.where(own, _LEFT_OUT, logits)
    label = ops.sum(ops.where(own, logits, 0.0), axis=-1)
    return label, others


def log_odds(y: Tensor, logits: Tensor) -> Tensor:
    """`logsumexp_{j != y} z_j - z_y`: cross-entropy before its softplus.

    Cross-entropy is `softplus(log_odds)`, so both order images alike and have
    gradients of the same direction; normalized steps are the same for both.
    But the softmax form's gradient rounds to zero in float32 from a margin of
    17 on and the softplus form's from 88 on; this one's never does.

    Args:
        y: Integer labels of shape `(N,)`.
        logits: Tensor of shape `(N, C)`.

    Returns:
        Float tensor of shape `(N,)`.
    """
    label, others = _split(y, logits)
    return ops.logsumexp(others, axis=-1) - label


def margin(y: Tensor, logits: Tensor) -> Tensor:
    """`max_{j != y} z_j - z_y`: positive exactly where the label loses.

    Carlini & Wagner 2017 (arXiv:1608.04644), objective f6, without its floor.

    Args:
        y: Integer labels of shape `(N,)`.
        logits: Tensor of shape `(N, C)`.

    Returns:
        Float tensor of shape `(N,)`.
    """
    label, others = _split(y, logits)
    return ops.max(others, axis=-1) - label


def probability_margin(y: Tensor, logits: Tensor) -> Tensor:
    """`log(1 - (p_y - max_{j != y} p_j))`: the margin of probabilities.

    Xie et al. 2024 (arXiv:2411.15210) decrease `p_y - max_{j != y} p_j`. This
    rises as it falls, so normalized steps are the same for both; but `1 - p_y`
    is computed as the sum of the others' probabilities, and where that of the
    label rounds to 1 the gradient stays.

    Args:
        y: Integer labels of shape `(N,)`.
        logits: Tensor of shape `(N, C)`.

    Returns:
        Float tensor of shape `(N,)`, at most log 2.
    """
    label, others = _split(y, logits)
    rest = ops.logsumexp(others, axis=-1)
    return ops.logaddexp(rest, ops.max(others, axis=-1)) - ops.logaddexp(
        rest, label
    )


def dlr(y: Tensor, logits: Tensor) -> Tensor:
    """Difference of logits ratio, `-(z_y - max_{j != y} z_j) / (z_1 - z_3)`.

    `z_1 >= z_2 >= z_3` are the largest logits: the ratio does not change with
    the scale of the logits. Croce & Hein 2020 (arXiv:2003.01690), section 4.

    Args:
        y: Integer labels of shape `(N,)`.
        logits: Tensor of shape `(N, C)`, C >= 3.

    Returns:
        Float tensor of shape `(N,)`; 0 where all logits are equal.
    """
    top = ops.top_k(ops.cast(logits, "float32"), 3)[0]
    return _ratio(margin(y, logits), top[:, 0] - top[:, 2])


def targeted_dlr(y: Tensor, target: Tensor, logits: Tensor) -> Tensor:
    """`-(z_y - z_t) / (z_1 - (z_3 + z_4) / 2)`, section 4 of the same paper.

    Args:
        y: Integer labels of shape `(N,)`, to leave.
        target: Integer labels of shape `(N,)`, to reach.
        logits: Tensor of shape `(N, C)`, C >= 4.

    Returns:
        Float tensor of shape `(N,)`; 0 where all logits are equal.
    """
    logits = ops.cast(logits, "float32")
    top = ops.top_k(logits, 4)[0]
    return _ratio(
        difference(y, target, logits),
        top[:, 0] - (top[:, 2] + top[:, 3]) / 2,
    )


def difference(y: Tensor, target: Tensor, logits: Tensor) -> Tensor:
    """`z_t - z_y`: positive where the target beats the label.

    Args:
        y: Integer labels of shape `(N,)`, to leave.
        target: Integer labels of shape `(N,)`, to reach.
        logits: Tensor of shape `(N, C)`.

    Returns:
        Float tensor of shape `(N,)`.
    """
    return own_logit(target, logits) - own_logit(y, logits)


def own_logit(y: Tensor, logits: Tensor) -> Tensor:
    """`z_y`, shape `(N,)`."""
    return _split(y, logits)[0]


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    # A denominator of zero has a numerator of zero.
    return above / ops.where(below > 0, below, 1.0)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": log_odds,
    "margin": margin,
    "dlr": dlr,
    "probability_margin": probability_margin,
}
# Classes below which a loss is not defined.
LEAST_CLASSES: dict[Any, int] = {"dlr": 3, "targeted_dlr": 4}


def get_loss(loss: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a name, or the callable itself.

    Args:
        loss: `"cross_entropy"`, `"margin"`, `"dlr"`, `"probability_margin"`
            or a callable `(y, logits) -> (N,)` that is larger where the label
            fits worse.

    Returns:
        The callable.

    Raises:
        ValueError: If it is neither.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(
            "Argument `loss` must be 'cross_entropy', 'margin', 'dlr', "
            "'probability_margin' or a callable `(y, logits) -> (N,)`; of PGD "
            "and FGSM also 'compiled'. "
            f"Received: loss={shown(loss)}"
        )
    return LOSSES[loss]


@dataclass(frozen=True)
class LabelObjective:
    """Loss to increase and success, for labels or for targets.

    Attributes:
        logits: `(x, draw, held) -> (N, C)` logits of a classifier.
        loss: A callable `(y, outputs) -> (N,)`.
        targeted: Whether `y` holds the labels to reach, not those to leave.
        outputs: `(x, draw, held) -> outputs` that the loss gets, where these
            are not the logits.
    """

    logits: Callable[..., Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    targeted: bool
    outputs: Callable[..., Tensor] | None = None

    def cached_weights(self) -> AbstractContextManager[Any]:
        """Return a context for many calls with the same weights."""
        return cached_weights(self.logits)

    def __call__(
        self, inputs: dict[str, Any], x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Values `(N,)` to increase at `x`, and where the goal is reached."""
        y, draw, held = inputs["y"], inputs.get("draw"), inputs.get("held")
        logits = self.logits(x, draw, held)
        outputs = self.outputs(x, draw, held) if self.outputs else logits
        loss = check_values("loss", self.loss(y, outputs), x)
        hit = is_predicted(y, logits)
        if self.targeted:
            return -loss, hit
        return loss, ops.logical_not(hit)


@dataclass(frozen=True)
class AwayToTarget:
    """Loss to increase towards a target; success is any wrong label.

    Attributes:
        logits: `(x, draw, held) -> (N, C)` logits of a classifier.
        loss: A callable `(y, target, logits) -> (N,)`.
    """

    logits: Callable[..., Tensor]
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]

    def cached_weights(self) -> AbstractContextManager[Any]:
        """Return a context for many calls with the same weights."""
        return cached_weights(self.logits)

    def __call__(
        self, inputs: dict[str, Any], x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Values `(N,)` to increase at `x`, and where the goal is reached."""
        y = inputs["y"]
        logits = self.logits(x, inputs.get("draw"), inputs.get("held"))
        loss = self.loss(y, inputs["target"], logits)
        return loss, ops.logical_not(is_predicted(y, logits))


def is_predicted(y: Tensor, logits: Tensor) -> Tensor:
    """Return whether `y` is predicted, bool `(N,)`."""
    return ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), y)
