"""What an attack climbs: one number per example, from labels and logits."""

from keras import ops

# Stands for minus infinity where the label's own logit is left out.
_LEFT_OUT = -1e30


def _split(y, logits):
    """The label's logit, and the logits with the label's left out."""
    logits = ops.cast(logits, "float32")
    own = ops.equal(ops.arange(logits.shape[-1], dtype=y.dtype), y[:, None])
    others = ops.where(own, _LEFT_OUT, logits)
    label = ops.sum(ops.where(own, logits, 0.0), axis=-1)
    return label, others


def log_odds(y, logits):
    """`logsumexp_{j != y} z_j - z_y`: cross-entropy before its softplus.

    Cross-entropy is `softplus(log_odds)`, so both order images alike and have
    gradients of the same direction; normalized steps cannot tell them apart.
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


def margin(y, logits):
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


LOSSES = {"cross_entropy": log_odds, "margin": margin}


def get_loss(loss):
    """The loss of a name, or the callable itself.

    Args:
        loss: `"cross_entropy"`, `"margin"` or a callable
            `(y, logits) -> (N,)` that is larger where the label fits worse.

    Returns:
        The callable.

    Raises:
        ValueError: If it is neither.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(
            "Argument `loss` must be 'cross_entropy', 'margin' or a callable "
            f"`(y, logits) -> (N,)`. Received: loss={loss!r}"
        )
    return LOSSES[loss]


class LabelObjective:
    """Loss to climb and success, for labels or for targets.

    Args:
        logits: `x -> (N, C)` logits of a frozen model.
        loss: A callable `(y, logits) -> (N,)`.
        targeted: Whether `y` holds the labels to reach, not those to leave.
    """

    def __init__(self, logits, loss, targeted):
        self.logits = logits
        self.loss = loss
        self.targeted = targeted

    def __call__(self, inputs, x):
        """Values `(N,)` to increase at `x`, and where the goal is reached."""
        y = inputs["y"]
        logits = self.logits(x)
        loss = self.loss(y, logits)
        hit = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), y)
        if self.targeted:
            return -loss, hit
        return loss, ops.logical_not(hit)
