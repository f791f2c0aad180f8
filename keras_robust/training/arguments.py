"""Checks of the arguments of `AdversarialModel`."""

import inspect
import warnings
from typing import Any

import keras
import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.compiled_loss import Part
from keras_robust.attacks.config import unknown_name
from keras_robust.attacks.gradient_attack import GradientAttack
from keras_robust.attacks.radii import doubtful_radius
from keras_robust.classifier.head import find_head
from keras_robust.objectives import TrainingObjective
from keras_robust.utils.messages import shown

# Attributes that are arguments of the constructor.
_FIXED = (
    "model",
    "attack",
    "validation_attack",
    "augmentation",
    "epsilon_schedule",
    "attacked",
    "objective",
    "weight_perturbation",
    "replays",
)
# Optimizers that set weights in place of moving them. Not all versions of Keras
# have the second one.
_SET_WEIGHTS = tuple(
    getattr(keras.optimizers, name)
    for name in ("Ftrl", "ScheduleFreeAdamW")
    if hasattr(keras.optimizers, name)
)


def check_keras_arguments(cls: type, arguments: dict[str, Any]) -> None:
    """Check that the remaining arguments are those of `keras.Model`.

    Args:
        cls: The class that is created.
        arguments: Keyword arguments that its constructor does not name.

    Raises:
        TypeError: If one is unknown; the message suggests the name meant.
    """
    keras_own = _names(keras.layers.Layer)
    unknown = [name for name in arguments if name not in keras_own]
    if unknown:
        known = list(dict.fromkeys([*_names(cls), *keras_own]))
        raise TypeError(unknown_name(cls, unknown[0], known))


def _names(cls: Any) -> list[str]:
    """Names of the arguments of a constructor, without `**kwargs`."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    rest = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [one for one in parameters if one.kind not in rest]
    return [parameter.name for parameter in named if parameter.name != "self"]


def check_augmentation(augmentation: Any) -> None:
    """Check the argument `augmentation`.

    Args:
        augmentation: Anything.

    Raises:
        ValueError: If it is neither `"auto"` nor `None`.
    """
    if augmentation not in ("auto", None):
        raise ValueError(
            "Argument `augmentation` must be 'auto' or None. "
            f"Received: augmentation={shown(augmentation)}"
        )


def check_metrics(
    metrics: Any, argument: str, names: list[str] | None, structure: Any
) -> None:
    """Check that metrics of a model with several outputs name the outputs.

    Args:
        metrics: `metrics` or `weighted_metrics` of `compile`.
        argument: Which of the two.
        names: Names of the outputs; `None` if they are not known.
        structure: The outputs, in the structure of the model's.

    Raises:
        ValueError: If they are neither a list with one entry per output nor a
            dictionary with keys among the outputs.
    """
    if not metrics or not names or len(names) < 2:
        return
    if len(keras.tree.flatten(structure)) != len(structure):
        # Nested outputs, whose structure Keras compares.
        return
    if isinstance(metrics, dict):
        fits = set(metrics) <= set(names)
    elif isinstance(metrics, (list, tuple)):
        fits = len(metrics) == len(names)
    else:
        # Keras raises that it must be a list.
        return
    if not fits:
        raise ValueError(
            f"Argument `{argument}` of compile must be a dictionary with keys "
            f"among the outputs {names}, or a list with one entry for each of "
            f"them. Received: {argument}={shown(metrics)}"
        )


def check_from_logits(model: keras.Model, parts: list[Part]) -> None:
    """Check that no loss applies a softmax or sigmoid a second time.

    Args:
        model: A Keras model.
        parts: The parts of its compiled loss.

    Raises:
        ValueError: If an output ends in a softmax or sigmoid and its loss has
            `from_logits=True`.
    """
    for part in parts:
        loss = part.loss
        if not isinstance(loss, keras.losses.Loss):
            continue
        kind = find_head(model, part.key).kind
        if kind in ("softmax", "sigmoid") and from_logits_of(loss):
            raise ValueError(
                "The loss must have from_logits=False: the model ends in a "
                f"{kind}, so it gives probabilities. "
                f"Received: loss={type(loss).__name__}(from_logits=True)"
            )


def from_logits_of(loss: keras.losses.Loss) -> bool:
    """Whether a Keras loss takes logits."""
    try:
        return bool(loss.get_config().get("from_logits", False))
    except (NotImplementedError, AttributeError, TypeError, ValueError):
        # A user-defined loss need not have a configuration.
        return False


def check_objective(objective: Any) -> Any:
    """Return the argument `objective`.

    Args:
        objective: Anything.

    Raises:
        ValueError: If it is neither `"adversarial"` nor a `TrainingObjective`.
    """
    if objective == "adversarial" or isinstance(objective, TrainingObjective):
        return objective
    raise ValueError(
        "Argument `objective` must be 'adversarial' or a TrainingObjective "
        "such as kr.objectives.TRADES(beta=6.0). "
        f"Received: objective={shown(objective)}"
    )


def check_untargeted(objective: TrainingObjective, attack: Attack) -> None:
    """Check that an attack on a divergence is untargeted.

    Args:
        objective: The objective.
        attack: The attack of training.

    Raises:
        ValueError: If it has targets, which the objective does not use.
    """
    if attack.targeted and objective.attack_loss is not None:
        raise ValueError(
            "Argument `attack` must be untargeted with an objective whose "
            f"attack moves away from clean predictions, as "
            f"{type(objective).__name__}. Received: targeted=True"
        )


def check_replays(model: Any, attack: Any, front: Any) -> None:
    """Check that the perturbation may follow the gradients of training.

    Args:
        model: An `AdversarialModel`.
        attack: Its `BatchAttack` of training.
        front: Its `Front` or `None`.

    Raises:
        ValueError: If attack or model need more than the one gradient.
    """
    own, integers = attack.attack, attack.classifier.integer_input
    reasons = {
        "objective other than 'adversarial'": model.objective != "adversarial",
        "weight_perturbation": bool(model.weight_perturbation),
        "attack of more than one step": own.steps != 1,
        "attack with restarts, eot or targets": own.restarts > 1
        or own.eot > 1
        or own.targeted,
        "attack that leaves its ball": own.leaves_ball,
        "attack with a loss of its own": own.loss
        not in ("cross_entropy", "compiled"),
        "input of integers, which have no gradient": integers and front is None,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise ValueError(
            "Argument `replays` above 1 must come with an FGSMAttack, or a "
            "PGDAttack(steps=1), along the gradient that trains the weights. "
            f"Received: replays={model.replays} with {', '.join(found)}"
        )


def check_perturbable(
    optimizer: keras.optimizers.Optimizer,
    replicas: int,
    variables: list[keras.Variable],
) -> None:
    """Check that weights may be perturbed in training steps.

    Args:
        optimizer: The optimizer.
        replicas: Number of devices that share a batch.
        variables: The variables that it changes.

    Raises:
        ValueError: If the optimizer averages weights, or sets them in place of
            moving them, or constraints act on them, which would all happen
            while they are perturbed; or devices would perturb them differently.
    """
    for one in _all_optimizers(optimizer, variables):
        if getattr(one, "use_ema", False):
            raise ValueError(
                "Argument `weight_perturbation` must be 0 with an optimizer "
                "that has use_ema=True: it would average perturbed weights. "
                "Received: use_ema=True"
            )
        if isinstance(one, _SET_WEIGHTS):
            raise ValueError(
                "Argument `weight_perturbation` must be 0 with an optimizer "
                "that computes weights from its own state: it would lose "
                "where they were before they were perturbed. "
                f"Received: optimizer={type(one).__name__}"
            )
    bound = [one.path for one in variables if one.constraint is not None]
    if bound:
        raise ValueError(
            "Argument `weight_perturbation` must be 0 with constraints on "
            "weights, which would hold for perturbed weights only. "
            f"Received: constraints on {bound}"
        )
    if replicas > 1:
        raise ValueError(
            "Argument `weight_perturbation` must be 0 under a distribution "
            "strategy: each replica would perturb weights in its own "
            f"direction. Received: {replicas} replicas"
        )


def _all_optimizers(
    optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]
) -> list[keras.optimizers.Optimizer]:
    """An optimizer without its loss scale, and those that it consists of."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(inner, "optimizers"):
        return [inner]
    # A function may choose the optimizer of each variable.
    inner.build(variables)
    return [inner, *inner.optimizers]


def check_kind(attack: Any, name: str) -> None:
    """Check that an attack can run inside a training step.

    Args:
        attack: Anything.
        name: Name of the argument in errors.

    Raises:
        ValueError: If it is not a PGD or FGSM attack.
    """
    if not isinstance(attack, GradientAttack):
        raise ValueError(
            f"Argument `{name}` must be a PGDAttack, FGSMAttack or "
            "NFGSMAttack, or an attack of your own that defines "
            "`perturb_batch`: the others cannot run in a train step. "
            f"Received: {name}={shown(attack)}"
        )
    if name == "validation_attack" and attack.leaves_ball:
        raise ValueError(
            f"Argument `{name}` must stay within its radius. "
            f"Received: {name}={shown(attack)}"
        )
    if attack.backward is not None:
        raise ValueError(
            f"Argument `{name}` must follow the model's own gradients, which "
            f"train it, and have no `backward`. Received: {name}="
            f"{shown(attack)}"
        )


def check_one_for_all(batch_attack: Any, name: str) -> None:
    """Check that an attack has the same settings for all examples.

    Args:
        batch_attack: A `BatchAttack`.
        name: Name of the argument in errors.

    Raises:
        ValueError: If it has one for each example: a row of a training batch
            is a different example in every step.
    """
    attack, classifier = batch_attack.attack, batch_attack.classifier
    shape = classifier.input_shape
    rank = None if shape is None else 1 + len(shape)
    values = {
        "epsilon": attack.epsilon,
        "step_size": attack.effective_step_size(),
        "mask": attack.mask,
    }
    for part, value in values.items():
        if value is not None and _is_per_example(value, part, rank):
            raise ValueError(
                f"Argument `{name}` must have one {part} for all examples, "
                "which may be a row of the input with a leading axis of 1: "
                "batches of training have no fixed rows. "
                f"Received: {name}.{part}.shape={np.shape(value)}"
            )


def _is_per_example(value: Any, part: str, rank: int | None) -> bool:
    shape = np.shape(value)
    if not shape:
        return False
    if part == "mask":
        # One of lower rank broadcasts over examples.
        return rank is not None and len(shape) >= rank and shape[0] != 1
    return len(shape) == 1 or shape[0] != 1


def check_front(front: Any, attack: Any) -> None:
    """Check that the attack's arrays fit images after the layers in front.

    Args:
        front: A `Front` or `None`.
        attack: The `BatchAttack` on the network after it.

    Raises:
        ValueError: If the layers change the shape of images and an argument of
            the attack is an array.
    """
    if front is None or front.keeps_shape:
        return
    own = attack.attack
    rows = {
        "epsilon": own.epsilon,
        "value_range": own.value_range[0],
        "mask": own.mask,
    }
    names = [key for key, value in rows.items() if np.ndim(value)]
    if names:
        raise ValueError(
            f"Arguments {names} of the attack must be numbers where layers in "
            "front of the model change the shape of the image, from "
            f"{front.classifier.input_shape} to "
            f"{tuple(front.entry.tensor.shape[1:])}. "
            f"Received: arrays for {names}"
        )


def check_schedule(schedule: Any, attack: Any) -> None:
    """Check that the radius of an attack can follow a schedule.

    Args:
        schedule: The model's `epsilon_schedule`.
        attack: The `BatchAttack` of training.

    Raises:
        ValueError: If the attack has no radius, or one of 0, from which no
            step size follows.
    """
    if schedule is None:
        return
    own = getattr(attack.attack, "own", attack.attack)
    if own.epsilon is None or not np.max(own.epsilon, initial=0.0) > 0:
        raise ValueError(
            "Argument `epsilon_schedule` must come with an attack whose "
            f"epsilon is > 0. Received: epsilon={shown(own.epsilon)}"
        )


def warn_of_radius(batch_attack: Any) -> None:
    """Warn if a radius is probably a mistake, as flags of evaluations do.

    Args:
        batch_attack: The `BatchAttack` of training.
    """
    shape = batch_attack.classifier.input_shape
    if shape is None or None in shape:
        return
    attack = batch_attack.attack
    doubt = doubtful_radius(getattr(attack, "own", attack), (1, *shape))
    if doubt is not None:
        warnings.warn(doubt, UserWarning, stacklevel=3)


def check_may_change(name: str, is_made: bool) -> None:
    """Check that an attribute is not one that the training steps rest on.

    Args:
        name: Name of the attribute that is set.
        is_made: Whether the model has been made.

    Raises:
        AttributeError: If it is an argument of the constructor.
    """
    if is_made and name in _FIXED:
        raise AttributeError(
            f"Attribute `{name}` of an AdversarialModel must stay as it is, "
            "since training steps were made from it: make another "
            "AdversarialModel around the same `model`. "
            f"Received: another value of `{name}`"
        )


def check_counts_steps(clock: Any) -> None:
    """Check that a schedule counts steps, not epochs.

    Args:
        clock: The model's `EpsilonClock`, or `None`.

    Raises:
        ValueError: If it counts epochs.
    """
    if clock is not None and clock.counts_epochs:
        raise ValueError(
            "Argument `epsilon_schedule` must count steps where epochs are not "
            "known: train_on_batch has none. "
            f"Received: epsilon_schedule={shown(clock.schedule)}"
        )


def check_filepath(filepath: Any) -> None:
    """Check that a file can hold an `AdversarialModel`.

    Args:
        filepath: Where to save.

    Raises:
        ValueError: If it is an HDF5 file, which cannot hold the attacks.
    """
    if str(filepath).endswith((".h5", ".hdf5")):
        raise ValueError(
            "Argument `filepath` must end in .keras: an HDF5 file cannot hold "
            "an AdversarialModel. Its inner model can be saved as any Keras "
            f"model, by .model.save. Received: {filepath!s}"
        )
