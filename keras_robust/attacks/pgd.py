"""Projected gradient descent."""

from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any

import keras

from keras_robust.attacks.gradient_attack import GradientAttack
from keras_robust.utils import checks
from keras_robust.utils.messages import shown


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class PGDAttack(GradientAttack):
    """Projected gradient descent in an L1, L2 or L-infinity ball.

    Madry et al. 2018 (arXiv:1706.06083), section 2.1. Every step moves by
    `step_size` along the normalized gradient of the summed loss, projects to
    the ball, then clips to `value_range` (the order of foolbox, torchattacks
    and the paper's own library).

    Args:
        norm: `"l2"` (or 2), `"linf"` (or `numpy.inf`) or `"l1"` (or 1). An L1
            step moves the hundredth of the entries with the largest
            gradients (Tramer & Boneh 2019, arXiv:1904.13000, section 3).
        epsilon: Radius of the ball in units of `value_range`, >= 0: a number;
            an array of shape `(N,)` (or `(N, 1)`), one per example; or, for
            L-infinity, one row of the input, a radius for each feature.
            `None` for half the width of `value_range`.
        step_size: Length of a step in that norm, a number or one per example;
            `None` for `2.5 * epsilon / steps` (the rule of MadryLab's
            `robustness`); or a `keras.optimizers.schedules` object, called
            with the index of the step.
        steps: Int >= 0, number of gradient steps.
        random_start: Whether to start from a uniform draw from the ball.
        restarts: Int >= 1, independent random starts; the best result per
            example by (success, loss) is kept.
        targeted: Whether `y` holds the labels to reach.
        value_range: `(low, high)`, the box that holds all inputs: numbers, or
            arrays of one row of the input; or `"auto"`: (0, 255) where a
            `Rescaling` at the front of the model takes bytes, else (0, 1).
        loss: `"cross_entropy"`, `"margin"`, `"dlr"`; a callable
            `(y, logits) -> (N,)` of tensors, larger where the label fits
            worse; a `keras.losses.Loss`, which gets the model's own output;
            or `"compiled"`: the loss that the model was compiled with, for
            labels of any kind.
        seed: Int for the same random starts in every call, on every backend
            and for every batch size; `None` for fresh ones.
        keep_best: Whether to return the best iterate by (success, loss)
            instead of the last.
        early_stop: Whether an example stops at its first success: one that is
            wrong from the start is returned unchanged, and later restarts run
            only on examples that are not broken yet.
        mask: `None`, or numbers that broadcast to `x`: 0 where it must not
            move. Applied before the norm.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: `True` if the model gives logits, `False` if not, `None` to
            infer it.
        jit_compile: `"auto"` for the fastest way of the backend and device,
            `True` to force XLA (or `torch.compile`), `False` to forbid it.
        momentum: Float >= 0, share of the last direction kept in the next
            (Dong et al. 2018, arXiv:1710.06081, algorithm 1: gradients are
            added up after division by their L1 norm).
        eot: Int >= 1, gradients averaged in each step, with fresh randomness
            of the model's own random layers in each (expectation over
            transformation, Athalye et al. 2018, arXiv:1707.07397).
        layer: `None`, or the name of a layer whose outputs a callable `loss`
            gets in place of the logits.
        backward: Layers that are differentiated as something else (BPDA,
            Athalye et al. 2018, arXiv:1802.00420): a mapping from layers,
            their names or classes to callables of a tensor, to
            `"straight_through"` for the identity, or to `"through_flat"` for
            the identity only where the layer's own gradient is zero.
            `"straight_through"` alone chooses the layers that are known to have
            no gradient. Values of the model do not change. `None` for its own
            gradients.
        attacked: Name or position of the input to perturb, of a model with
            several; the others are held fixed.
        output: Name or position of the output that classifies, of a model
            with several.

    Example:

    ```python
    attack = keras_robust.PGDAttack(norm="l2", epsilon=0.5, steps=7)
    x_adv = attack(model, x, y)
    ```
    """

    norm: Any = "l2"
    epsilon: Any = None
    step_size: Any = None
    steps: int = 7
    random_start: bool = False
    restarts: int = 1
    targeted: bool = False
    _: KW_ONLY
    loss: Any = "cross_entropy"
    seed: int | None = None
    keep_best: bool = False
    early_stop: bool = False
    mask: Any = None
    momentum: float = 0.0
    eot: int = 1
    layer: str | None = None
    backward: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        scheduled = isinstance(
            self.step_size, keras.optimizers.schedules.LearningRateSchedule
        )
        if self.step_size is not None and not scheduled:
            self.step_size = checks.check_radius(self.step_size, "step_size")
        self.steps = checks.check_positive_integer(self.steps, "steps", least=0)
        self.random_start = bool(self.random_start)
        self.keep_best = bool(self.keep_best)
        self.momentum = checks.check_number(self.momentum, "momentum")
        self.eot = checks.check_positive_integer(self.eot, "eot")
        checks.check_restarts(self.restarts, self.random_start)
        if self.layer is not None and not callable(self.loss):
            raise ValueError(
                "Argument `layer` must come with a callable `loss` of that "
                f"layer's outputs. Received: layer={shown(self.layer)}, "
                f"loss={shown(self.loss)}"
            )

    def for_validation(self) -> GradientAttack:
        """See `GradientAttack`: more steps than one."""
        if self.steps != 1:
            return self
        return self.replace(steps=self.validation_steps, step_size=None)
