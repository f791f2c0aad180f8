"""The attack inside a train or test step."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.compiled_loss import CompiledLoss
from keras_robust.attacks.compiled_loss import Part
from keras_robust.attacks.compiled_loss import output_names
from keras_robust.attacks.compiled_objective import CompiledObjective
from keras_robust.attacks.compiled_objective import RawOutputs
from keras_robust.attacks.gradient_attack import GradientAttack
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.objectives import is_predicted
from keras_robust.backend import Tensor
from keras_robust.classifier import Classifier
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.head import as_logits
from keras_robust.classifier.head import find_head
from keras_robust.classifier.head import precise_dtype
from keras_robust.classifier.inputs import Held
from keras_robust.training.attack_objectives import ClassObjective
from keras_robust.training.attack_objectives import CleanObjective
from keras_robust.training.attack_objectives import LogProbabilities
from keras_robust.training.attack_objectives import SoftObjective
from keras_robust.training.augmentation import Front
from keras_robust.training.augmentation import plain_logits
from keras_robust.training.points import near
from keras_robust.training.points import to_integers
from keras_robust.training.source_checks import could_be_probabilities
from keras_robust.training.source_checks import image_findings
from keras_robust.training.source_checks import label_findings
from keras_robust.training.tasks import CLASSES
from keras_robust.training.tasks import OTHER
from keras_robust.training.tasks import SOFT_CLASSES
from keras_robust.training.tasks import as_soft_rows
from keras_robust.training.tasks import class_numbers
from keras_robust.training.tasks import task_of
from keras_robust.utils.messages import shown


class Batch(NamedTuple):
    """The parts of a batch of data.

    Attributes:
        image: Float32 tensor `(N, ...)`, the attacked input.
        held: Dictionary of the inputs that are not attacked.
        y: Labels as `fit` takes them.
        labels: Labels of the output that is classified.
        task: Result of `task_of`.
    """

    image: Any
    held: Held
    y: Any
    labels: Any
    task: str


class _Shape(NamedTuple):
    shape: tuple[Any, ...]


class BatchAttack:
    """An attack on a model in training, inside its compiled steps.

    Args:
        model: The plain model.
        attack: A PGD or FGSM attack.
        loss: `() -> CompiledLoss | None`, the current loss of the model.
        own_loss: `OwnLoss` of a model that defines `compute_loss`, or `None`.
        divergence: `(clean, logits) -> (N,)` that the attack increases in
            place of its default loss; or `None`.

    Attributes:
        given: The attack as given; `attack` has a range and a radius in
            numbers.
    """

    def __init__(
        self,
        model: keras.Model,
        attack: GradientAttack,
        loss: Any,
        own_loss: Any = None,
        divergence: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self._model = model
        self.given = attack
        self._loss = loss
        self._own_loss = own_loss
        self._divergence = (
            divergence if attack.loss == "cross_entropy" else None
        )

    @property
    def classifier(self) -> Classifier:
        """The `Classifier` that is attacked.

        If the attack chooses none of several outputs, and only one has a loss,
        that one is classified.
        """
        attack, part = self.given, self.part()
        output = attack.output
        if output is None and part is not None:
            output = part.key
        return Classifier.of(
            self._model,
            from_logits=attack.from_logits,
            attacked=attack.attacked,
            output=output,
        )

    @property
    def attack(self) -> GradientAttack:
        """The attack with `value_range` and `epsilon` in numbers."""
        return self.given.resolve(self.classifier)

    def compiled_loss(self) -> CompiledLoss | None:
        """The loss of the attacked outputs; `None` before `compile`."""
        loss = self._loss()
        return None if loss is None else loss.only(self.given.output)

    def part(self) -> Part | None:
        """The loss of the output that is classified, if there is only one."""
        loss = self.compiled_loss()
        if loss is None or len(loss.parts) != 1:
            return None
        return loss.parts[0]

    def batch(self, x: Any, y: Any) -> Batch:
        """Split a batch into its parts.

        Args:
            x: Inputs as `fit` takes them.
            y: Labels as `fit` takes them.
        """
        classifier = self.classifier
        image, held = classifier.split(x)
        image = ops.cast(image, "float32")
        labels = self.labels(y)
        task = self._task(classifier, labels, image, held)
        return Batch(image, held, y, labels, task)

    def labels(self, y: Any) -> Any:
        """Labels of the output that is classified; `None` if there is none."""
        loss, part = self.compiled_loss(), self.part()
        if loss is None:
            return y
        return None if part is None else loss.labels(y, part)

    def safe_labels(self, batch: Batch) -> Any:
        """The labels of a batch, with class numbers clipped to the valid range.

        Invalid ones are reported after the step. Without clipping, some
        frameworks would stop inside it with errors of their own.

        Args:
            batch: Result of `batch`.
        """
        column = batch.labels is not None and (
            len(batch.labels.shape) == 1 or batch.labels.shape[-1] == 1
        )
        classes = self.num_classes(batch)
        if batch.task != CLASSES or classes is None or not column:
            return batch.y
        if keras.backend.standardize_dtype(batch.labels.dtype) == "bool":
            return batch.y
        # A dtype of few bits, as uint8, may not hold the last class.
        labels = ops.clip(ops.cast(batch.labels, "int32"), 0, classes - 1)
        labels = ops.cast(labels, batch.labels.dtype)
        loss, part = self.compiled_loss(), self.part()
        if loss is None or part is None:
            return labels
        return loss.replaced(batch.y, part, labels)

    def _task(
        self, classifier: Classifier, labels: Any, image: Any, held: Held
    ) -> str:
        loss = self.compiled_loss()
        part = self.part()
        if loss is not None and part is None or not hasattr(labels, "shape"):
            return OTHER
        shape, head = self._output(classifier, image, held)
        return task_of(labels, shape, part and part.loss, head)

    def task_of_arrays(self, image: Any, held: Held, y: Any) -> str:
        """The task of NumPy arrays, see `task_of`."""
        return self._task(self.classifier, self.labels(y), image, held)

    def _output(
        self, classifier: Classifier, image: Any, held: Held
    ) -> tuple[_Shape, str | None]:
        """Shape and last activation of the output that is classified."""
        model, part = classifier.model, self.part()
        key = classifier.output if part is None else part.key

        def shape_and_head() -> tuple[_Shape, str | None]:
            if shows_graph(model):
                found, head = output_of(model, key), find_head(model, key)
                return _Shape(tuple(found.shape)), head.kind
            few = ops.cast(ops.convert_to_tensor(image[:1]), "float32")
            kept = {k: ops.convert_to_tensor(v[:1]) for k, v in held.items()}
            found = classifier.outputs(few, held=kept)
            return _Shape((None, *tuple(found.shape)[1:])), None

        return classifier.cached(("output of task", key), shape_and_head)

    def num_classes(self, batch: Batch) -> int | None:
        """The number of classes; `None` for labels of another kind."""
        return None if batch.task == OTHER else self._width(batch)

    def class_numbers(self, y: Any, task: str) -> Any:
        """Numbers of classes, int32 `(N,)`; `None` for labels of another kind.

        Args:
            y: Labels as `fit` takes them.
            task: Result of `task_of`.
        """
        return None if task == OTHER else class_numbers(self.labels(y), task)

    def _width(self, batch: Batch) -> int:
        """The number of logits of the output that is classified."""
        shape, _ = self._output(self.classifier, batch.image, batch.held)
        return max(shape.shape[-1], 2)

    def run(
        self,
        batch: Batch,
        seed: Any,
        epsilon: Any = None,
        front: Front | None = None,
        attack: GradientAttack | None = None,
    ) -> tuple[Any, Any]:
        """Attack a batch.

        Args:
            batch: Result of `batch`; with `front`, its image is a drawn one.
            seed: `keras.random.SeedGenerator`.
            epsilon: Scalar tensor, the radius of this step; `None` for the
                attack's.
            front: The layers in front of the attacked network, or `None`.
            attack: Attack to run instead, on the same loss; or `None`.

        Returns:
            Attacked images, in the units of the input; and for which examples
            a gradient was not zero, bool `(N,)`, or `None` if not known.
        """
        start, own = None, attack or self.attack
        if attack is None and self._divergence is not None:
            objective, labels = self._clean_objective(batch, front)
            if not own.random_start:
                start = near(batch.image, own, seed)
        else:
            objective, labels = self.objective(batch, front)
        perturbed, moves = own.perturb(
            self.classifier,
            batch.image,
            labels,
            seed=seed,
            held=batch.held,
            objective=objective,
            epsilon=epsilon,
            start=start,
        )
        if front is None and self.classifier.integer_input:
            # A step that is rounded away moves nothing either.
            perturbed = to_integers(own, batch.image, perturbed, epsilon)
            moves = None
        return perturbed, moves

    def _clean_objective(
        self, batch: Batch, front: Front | None
    ) -> tuple[CleanObjective, Any]:
        """The divergence to increase, and the logits that it compares with."""
        logits = self._logits(front)
        if self.classifier.logits.gives_probabilities:
            logits = LogProbabilities(logits)
        clean = ops.stop_gradient(logits(batch.image, None, batch.held))
        return CleanObjective(logits, self._divergence), clean

    def objective(
        self, batch: Batch, front: Front | None = None
    ) -> tuple[Any, Any]:
        """The objective of the attack on a batch, and the labels it takes.

        Args:
            batch: Result of `batch`.
            front: The layers in front of the attacked network, or `None`.

        Returns:
            `(objective, labels)`; `None` stands for the attack's own objective.

        Raises:
            ValueError: If the attack's loss does not take such labels.
        """
        attack, name = self.given, self.given.loss
        is_class = batch.task != OTHER
        if self._own_loss is not None and name in ("cross_entropy", "compiled"):
            return self._own_loss.objective(self.classifier, front), batch.y
        is_loss = isinstance(name, keras.losses.Loss)
        by_default = name == "cross_entropy" and not is_class
        if is_loss or name == "compiled" or by_default:
            return self._compiled_objective(batch, front, name, is_loss)
        if not is_class:
            return self._callable_objective(front), batch.labels
        labels = class_numbers(batch.labels, batch.task)
        if batch.task == SOFT_CLASSES and name == "cross_entropy":
            soft = SoftObjective(self._logits(front), attack.targeted)
            return soft, as_soft_rows(batch.labels, self._width(batch))
        if front is None:
            return None, labels
        outputs = None
        if attack.layer is not None:
            outputs = self.classifier.layer_outputs(attack.layer)
        loss = get_loss(attack.loss)
        objective = LabelObjective(
            self._logits(front), loss, attack.targeted, outputs
        )
        return objective, labels

    def _compiled_objective(
        self, batch: Batch, front: Front | None, name: Any, is_loss: bool
    ) -> tuple[CompiledObjective, Any]:
        loss = self.compiled_loss()
        if is_loss:
            loss = self._any_loss().with_loss(name)
        if loss is None:
            raise ValueError(
                "With loss='compiled', or labels that are not numbers of "
                "classes, the model must be compiled with a loss. Received: a "
                "model without one"
            )
        outputs = self._raw_outputs(front, loss)
        kind = CompiledObjective
        if batch.task != OTHER and len(loss.parts) == 1:
            kind = ClassObjective
        return kind(outputs, loss, self.given.targeted), batch.y

    def _raw_outputs(
        self, front: Front | None, loss: CompiledLoss
    ) -> RawOutputs:
        if front is not None:
            return front.outputs(loss)
        return RawOutputs(self.classifier, loss)

    def _any_loss(self) -> CompiledLoss:
        """The compiled loss, or any loss with the same outputs."""
        loss = self.compiled_loss()
        if loss is not None:
            return loss
        names = output_names(self._model)
        return CompiledLoss("mse", None, names).only(self.given.output)

    def _logits(self, front: Front | None) -> Callable[..., Tensor]:
        if front is None:
            return self.classifier.logits
        return plain_logits(front, self.classifier)

    def _callable_objective(self, front: Front | None) -> Callable[..., Any]:
        loss = self.given.loss
        if not callable(loss):
            raise ValueError(
                f"An attack with loss={shown(loss)} needs labels that are "
                "numbers of classes; loss='compiled' takes all that the "
                "model's own loss takes. Received: labels of another kind"
            )
        outputs = self._raw_outputs(front, self._any_loss())
        sign = -1.0 if self.given.targeted else 1.0

        def objective(
            inputs: dict[str, Any], x: Tensor
        ) -> tuple[Tensor, Tensor]:
            found = outputs(x, inputs.get("draw"), inputs.get("held"))
            values = sign * loss(inputs["y"], found[0].values)
            return values, ops.zeros_like(values, dtype="bool")

        return objective

    def findings(self, batch: Batch) -> dict[str, Any]:
        """The findings that array checks would report.

        Args:
            batch: Result of `batch`, before the layers in front are drawn.
        """
        classes = self.num_classes(batch)
        checked = batch.labels if batch.task != OTHER else batch.y
        found = {
            **image_findings(batch.image, self.attack.value_range),
            **label_findings(checked, batch.task, classes),
        }
        logits = self.classifier.logits
        if batch.task != OTHER and not logits.known:
            outputs = self.classifier.outputs(batch.image, held=batch.held)
            found["probable"] = could_be_probabilities(
                ops.cast(outputs, "float32")
            )
        return found

    def is_right(self, batch: Batch, outputs: Any) -> Any:
        """Which examples the model predicts correctly.

        Args:
            batch: Result of `batch`.
            outputs: All outputs of the model for the batch.

        Returns:
            Float tensor `(N,)`.
        """
        loss = self._any_loss()
        output = loss.output(outputs, loss.parts[0])
        takes_log = self.classifier.logits.gives_probabilities
        found = as_logits(output, takes_log, precise_dtype(output))
        hit = is_predicted(class_numbers(batch.labels, batch.task), found)
        return ops.cast(hit, "float32")

    def logits_of(self, outputs: Any, is_class: bool) -> Tensor:
        """The logits of the output that is classified.

        Args:
            outputs: All outputs of the model for a batch.
            is_class: Whether labels are classes; otherwise the model's own
                output is returned, as floats.
        """
        found = self._any_loss()
        output = found.output(outputs, found.parts[0])
        if not is_class:
            return ops.cast(output, "float32")
        return as_logits(output, self.classifier.logits.gives_probabilities)

    def check_noise(self) -> None:
        """Check outputs on random images, if the input shape is known.

        Raises:
            ValueError: If it is unclear whether a classifier gives logits.
        """
        classifier, attack = self.classifier, self.attack
        names = output_names(self._model) or []
        if len(names) > 1 and classifier.output is None:
            # It is not known which one classifies.
            return
        shape = classifier.input_shape or (None,)
        sizes = [size for size in shape if size is not None]
        width = classifier.outputs.width
        if len(sizes) < len(shape) or width is None or width < 2:
            return
        if not classifier.batch_size:
            low, high = attack.value_range
            if not np.isfinite(low).all() or not np.isfinite(high).all():
                low, high = -1.0, 1.0
            noise = np.random.default_rng(0).uniform(low, high, (4, *sizes))
            noise = noise.round() if classifier.integer_input else noise
            if not self._has_others():
                classifier.check(noise.astype("float32"))

    def _has_others(self) -> bool:
        return len(self.classifier.inputs.names) > 1

    @property
    def hides_zero_gradient(self) -> bool:
        """Whether the attack changes images even without a gradient."""
        attack = self.attack
        return bool(
            attack.random_start
            or attack.keep_best
            or attack.early_stop
            or self._divergence is not None
        )
