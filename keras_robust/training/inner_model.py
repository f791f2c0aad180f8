"""Training methods that the wrapped model overrides."""

import inspect
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_robust.attacks.compiled_loss import ones_for
from keras_robust.backend import Tensor
from keras_robust.classifier import Classifier
from keras_robust.classifier.frozen import call_in_inference
from keras_robust.classifier.frozen import frozen_scope
from keras_robust.training.augmentation import Front

_REFUSED = ("train_step", "test_step", "make_train_function", "fit")
_NOT_CALLED = ("compute_metrics", "predict_step")


def check_own_methods(model: Any) -> None:
    """Check that a model does not override the training loop.

    Args:
        model: A Keras model.

    Raises:
        ValueError: If it overrides `train_step` or a similar method.
    """
    for name in _REFUSED:
        if _has_own(model, name):
            raise ValueError(
                f"Argument `model` must not have a `{name}` of its own: "
                "`fit` of the AdversarialModel would not call it. Override "
                "`compute_loss` instead, which is called. "
                f"Received: model {model.name!r} of type {type(model).__name__}"
            )
    names = [name for name in _NOT_CALLED if _has_own(model, name)]
    if names:
        warnings.warn(
            f"Methods {names} of model {model.name!r} are not called by "
            "AdversarialModel.",
            UserWarning,
            stacklevel=3,
        )


def _has_own(model: keras.Model, name: str) -> bool:
    own = getattr(type(model), name, None) is not getattr(keras.Model, name)
    return own or name in vars(model)


class OwnLoss:
    """The `compute_loss` of a wrapped model that overrides it.

    Args:
        model: The wrapped model; the reference is weak.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model: Callable[[], keras.Model] = weakref.ref(model)
        parameters = inspect.signature(model.compute_loss).parameters
        self._takes_training = "training" in parameters or any(
            parameter.kind is inspect.Parameter.VAR_KEYWORD
            for parameter in parameters.values()
        )

    @classmethod
    def of(cls, model: keras.Model) -> "OwnLoss | None":
        """A model's own loss, or `None` for one that does not override it."""
        return cls(model) if _has_own(model, "compute_loss") else None

    def compile(self, loss: Any, loss_weights: Any) -> None:
        """Compile the model, so that it can compute its compiled loss."""
        self._model().compile(
            optimizer=None, loss=loss, loss_weights=loss_weights
        )

    def metrics(self, names: set[str]) -> list[keras.metrics.Metric]:
        """The metrics of the model itself.

        Args:
            names: Names to leave out.
        """
        return [
            metric
            for metric in self._model().metrics
            if metric.name not in {*names, "loss", "compile_metrics"}
        ]

    def __call__(
        self,
        x: Any,
        y: Any,
        y_pred: Any,
        sample_weight: Any = None,
        training: bool = True,
        losses: list[Tensor] | None = None,
    ) -> Any:
        """The model's loss.

        Args:
            x: As in `compute_loss`.
            y: As in `compute_loss`.
            y_pred: As in `compute_loss`.
            sample_weight: As in `compute_loss`.
            training: As in `compute_loss`.
            losses: Losses that layers added in a forward pass outside of the
                model.
        """
        model = self._model()
        given = {"training": training} if self._takes_training else {}
        if losses:
            # The trainer of Keras does the same on JAX.
            model._losses_override = list(losses)
        try:
            return model.compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **given
            )
        finally:
            if losses:
                model._losses_override = []

    def objective(self, classifier: Classifier, front: Front | None) -> Any:
        """The loss as an objective of attacks.

        Args:
            classifier: The `Classifier`.
            front: The layers in front of the attacked network, or `None`.

        Returns:
            `(inputs, x) -> (values, success)`. The one loss of the batch is the
            value of each example.
        """

        def objective(
            inputs: dict[str, Any], x: Tensor
        ) -> tuple[Tensor, Tensor]:
            model, held = self._model(), inputs.get("held")
            packed = classifier.inputs.pack(x, held)
            with frozen_scope(model, inputs.get("draw")):
                if front is None:
                    y_pred = call_in_inference(model, packed)
                else:
                    y_pred = front.finish(x, held, training=False)
            known = [*model.variables, *model.metrics_variables]
            mapping = [(variable, variable.value) for variable in known]
            with keras.StatelessScope(state_mapping=mapping):
                loss = self(packed, inputs["y"], y_pred, training=False)
            values = ops.cast(loss, "float32") * ones_for(x)
            return values, ops.zeros_like(values, dtype="bool")

        return objective
