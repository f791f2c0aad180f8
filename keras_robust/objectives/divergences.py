"""Divergences between the predictions for clean and attacked images."""

from keras import ops

from keras_robust.backend import Tensor


def kl_divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """`KL(softmax(clean) || softmax(attacked))`, from logits.

    Args:
        clean: Tensor of shape `(N, C)`.
        attacked: Tensor of shape `(N, C)`.

    Returns:
        Tensor of shape `(N,)`.
    """
    log_p, log_q = ops.log_softmax(clean), ops.log_softmax(attacked)
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)
