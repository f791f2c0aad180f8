"""Adversarial training as an ordinary Keras model."""

import copy
from typing import Any

import keras

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.compiled_loss import CompiledLoss
from keras_robust.attacks.compiled_loss import output_names
from keras_robust.classifier import check_built
from keras_robust.classifier.graph import output_structure
from keras_robust.classifier.graph import shows_graph
from keras_robust.training import arguments as checks
from keras_robust.training.array_checks import check_arrays
from keras_robust.training.augmentation import drawn_from
from keras_robust.training.augmentation import front_to_draw
from keras_robust.training.batch_attack import BatchAttack
from keras_robust.training.evaluation_seeds import first_state
from keras_robust.training.fitting import EpochCallback
from keras_robust.training.fitting import arguments_by_name
from keras_robust.training.fitting import prepend_callback
from keras_robust.training.inner_model import OwnLoss
from keras_robust.training.inner_model import check_own_methods
from keras_robust.training.own_attack import for_steps
from keras_robust.training.pairs import pair_from
from keras_robust.training.robust_metrics import RobustMetrics
from keras_robust.training.schedules import EpsilonClock
from keras_robust.training.source_checks import BatchChecks
from keras_robust.training.source_checks import BatchInspector
from keras_robust.training.steps import AttackedSteps
from keras_robust.utils.checks import check_number
from keras_robust.utils.checks import check_positive_integer

# Arguments that are Keras objects.
_OBJECTS = (
    "model",
    "attack",
    "validation_attack",
    "epsilon_schedule",
    "objective",
)


@keras.saving.register_keras_serializable("keras_robust")
class AdversarialModel(AttackedSteps):
    """A model that `fit` trains on attacked batches.

    Madry et al. 2018 (arXiv:1706.06083), section 2.1: each training step
    minimizes the compiled loss on the attack's output for the current
    weights. The attack runs the model in inference mode; only the pass on the
    attacked batch has `training=True`. `compile`, callbacks, weights for
    samples and classes, and data of any kind work as in Keras. `predict` and
    calls return the inner model's output.

    **The wrapped model is trained in place**, not a copy. To compare with the
    model before training, wrap `keras.models.clone_model(model)` with the same
    weights.

    If labels are class numbers or one-hot, the attack increases the log-odds
    of wrong classes. For all other labels (several labels at once, numbers,
    -1 and 1, soft labels, an image of labels), and with `loss="compiled"`, it
    increases the model's compiled loss: the weighted sum over all outputs, or
    with `output` that of one.

    `fit` logs `loss` and the metrics on what it trained on. Evaluation logs
    them on clean data, and on inputs under `validation_attack` `robust_loss`,
    `robust_<name>` for each compiled metric, and for classes
    `robust_accuracy`. Metrics are weighted as their clean ones.

    Args:
        model: A built `keras.Model`, available as `.model`; save that one to
            publish an ordinary Keras model. If it overrides `compute_loss`,
            that is the loss of training and attacks.
        attack: A `PGDAttack` or `FGSMAttack`, or an attack of your own that
            defines `perturb_batch` with `keras.ops`; its `seed` seeds the
            random starts, which differ from step to step.
        validation_attack: Attack for `evaluate` and `validation_data`;
            `None` for `attack`, or if that has one step, for ten steps of PGD
            in its ball. Its `seed` gives each evaluation the same random
            starts, apart from those of training.
        augmentation: `"auto"`: random image layers at the front of the model
            (`RandomFlip`, ..., also in a `Pipeline` or nested model, or after
            a `Rescaling`; your own ones if they change nothing in inference)
            run once in each training step. The drawn image, clipped to
            `value_range`, is attacked, and the rest of the model is trained on
            it. With `None`, and for random layers elsewhere, they run in the
            training pass, after the attack, which they undo; a warning names
            them.
        epsilon_schedule: `None`, or a schedule of the radius: one of
            `keras.optimizers.schedules` or a function written with
            `keras.ops`, which return the radius by training step, a float
            tensor; or one of `keras_robust.training`, such as
            `LinearWarmup(epochs=5)`. The step size changes with the radius.
            Of a radius for each feature it is the largest; the others stay in
            proportion. The validation attack keeps its own radius.
        attacked: Name or position of the input to perturb, for a model with
            several; `None` for the attack's `attacked`.
        output: Name or position of the output whose loss is increased, for a
            model with several; `None` for the attack's `output`.
        objective: What `fit` minimizes: `"adversarial"`, the compiled loss on
            attacked batches; or one of `keras_robust.objectives`, such as
            `TRADES(beta=6.0)`; or one of your own, see `TrainingObjective`.
            Those run the model on the clean batch as well.
        weight_perturbation: Float >= 0, adversarial weight perturbation (Wu
            et al. 2020, arXiv:2004.05884): gradients are taken at weights
            that moved along the gradient of the objective by this share of
            the norm of each matrix or kernel. The paper uses 0.005; 0 for
            none. Costs one more gradient of the weights per step.
        replays: Int >= 1. With m > 1 this is "free" training (Shafahi et al.
            2019, arXiv:1904.12843): each batch is trained on m times in a row,
            and the one backward pass of each time updates the weights and
            moves the perturbation by a step of `attack`, which has one step
            and goes along the gradient of the compiled loss in the training
            pass. A batch begins where `attack` does, not with the last
            perturbation of the batch before, as in the paper. Use 1/m of the
            epochs; the optimizer counts m steps per batch.
        **kwargs: Arguments of `keras.Model`.

    Example:

    ```python
    robust = keras_robust.AdversarialModel(model, attack)
    robust.compile("adam", loss, metrics=["accuracy"])
    robust.fit(x, y, validation_data=(x_test, y_test))
    robust.model.save("robust.keras")
    ```

    Raises:
        ValueError: If the model is not built or overrides `train_step`, or an
            attack cannot run in a training step.
    """

    def __init__(
        self,
        model: keras.Model,
        attack: Attack,
        validation_attack: Attack | None = None,
        augmentation: str | None = "auto",
        epsilon_schedule: Any = None,
        attacked: str | int | None = None,
        output: str | int | None = None,
        objective: Any = "adversarial",
        weight_perturbation: float = 0.0,
        replays: int = 1,
        **kwargs: Any,
    ) -> None:
        checks.check_keras_arguments(type(self), kwargs)
        check_built(model)
        # The inner model casts its inputs itself, as without this one. By the
        # policy Keras decides whether an optimizer scales the loss.
        own = {"autocast": False, "dtype": model.dtype_policy}
        super().__init__(**{**own, **kwargs})
        check_own_methods(model)
        checks.check_augmentation(augmentation)
        self.model = model
        self.attack = attack
        self.validation_attack = validation_attack
        self.augmentation = augmentation
        self.epsilon_schedule = epsilon_schedule
        self.attacked = attacked
        self._output = output
        self.objective = checks.check_objective(objective)
        self.weight_perturbation = check_number(
            weight_perturbation, "weight_perturbation"
        )
        self.replays = check_positive_integer(replays, "replays")
        # A copy, since its variables belong to this model.
        self._objective = None
        if objective != "adversarial":
            self._objective = copy.copy(objective)
        self._own_loss = OwnLoss.of(model)
        self._loss_parts: CompiledLoss | None = None
        self._train_attack = self._batch_attack(attack, "attack")
        self._test_attack = self._batch_attack(
            validation_attack or self._default_validation(),
            "validation_attack",
        )
        self._front = front_to_draw(self._train_attack.classifier, augmentation)
        checks.check_front(self._front, self._train_attack)
        checks.check_schedule(epsilon_schedule, self._train_attack)
        checks.warn_of_radius(self._train_attack)
        self._clock = None
        if epsilon_schedule is not None:
            self._clock = EpsilonClock(self, epsilon_schedule)
        self._seed_generator = keras.random.SeedGenerator(attack.seed)
        self._test_seed = first_state(self._test_attack.given.seed)
        if self.replays > 1:
            checks.check_replays(self, self._train_attack, self._front)
        if self._objective is not None:
            checks.check_untargeted(self._objective, attack)
            self._objective.build(self._num_classes(), self.add_weight)
        self._batch_checks = BatchChecks()
        self._inspector = BatchInspector()
        self._robust: RobustMetrics | None = None
        self._evaluating = False
        self.built = True

    def __setattr__(self, name: str, value: Any) -> None:
        """As in Keras, except for arguments of the constructor."""
        checks.check_may_change(name, vars(self).get("built") is True)
        super().__setattr__(name, value)

    @property
    def attacked_model(self) -> keras.Model:
        """The inner model, which attacks on this model act on."""
        return self.model

    @property
    def attack_in_numbers(self) -> Attack:
        """The attack of training, with the range and radius for this model."""
        return self.attack.resolve(self._train_attack.classifier)

    @property
    def attacked_input(self) -> str | int | None:
        """Name or position of the attacked input, `None` for the only one."""
        return self._train_attack.given.attacked

    @property
    def classified_output(self) -> str | int | None:
        """Name or position of the output that the attack of training follows.

        `None` for all or the only one.
        """
        return self._train_attack.classifier.output

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs of the inner model."""
        return self.model.output_names

    @property
    def compiled_loss_by_example(self) -> CompiledLoss | None:
        """The compiled loss, for attacks; `None` before `compile`."""
        return self._loss_parts

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics of Keras, and those on attacked inputs."""
        metrics = super().metrics
        # Keras reads this property in the constructor already.
        own_loss = getattr(self, "_own_loss", None)
        if own_loss is not None:
            metrics += own_loss.metrics({m.name for m in metrics})
        robust = getattr(self, "_robust", None)
        if robust is not None:
            metrics += robust.metrics
        return metrics

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The inner model's output."""
        if pair := pair_from(inputs):
            return self.pair_outputs(pair, training).as_dict()
        if self._front is not None and (drawn := drawn_from(inputs)):
            return self._front.finish(drawn.image, drawn.held, training)
        return self.model(inputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The inner model's output shape."""
        return self.model.compute_output_shape(input_shape)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`; metrics are copied for attacked inputs."""
        names, is_shown = output_names(self.model), shows_graph(self.model)
        structure = output_structure(self.model) if is_shown else 0.0
        checks.check_metrics(metrics, "metrics", names, structure)
        checks.check_metrics(
            weighted_metrics, "weighted_metrics", names, structure
        )
        if self.weight_perturbation:
            optimizer = keras.optimizers.get(optimizer)
            checks.check_perturbable(
                optimizer, self._replicas, self.trainable_variables
            )
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            **kwargs,
        )
        if self._own_loss is not None:
            self._own_loss.compile(loss, loss_weights)
        self._loss_parts = None
        if loss is not None:
            self._loss_parts = CompiledLoss(loss, loss_weights, names)
            checks.check_from_logits(self.model, self._loss_parts.parts)
        self._robust = RobustMetrics(
            metrics, weighted_metrics, structure, names
        )

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """As `keras.Model.compile_from_config`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The compiled loss, or the inner model's own `compute_loss`.

        In a training step, that of the objective.
        """
        both, outputs = pair_from(x), pair_from(y_pred)
        if self._objective is not None and both and outputs:
            return self.pair_loss(
                self._objective, both, y, outputs, sample_weight, training
            )
        if self._own_loss is None:
            return super().compute_loss(
                x, y, y_pred, sample_weight, training=training
            )
        if drawn := drawn_from(x):
            inputs = self._train_attack.classifier.inputs
            x = inputs.pack(drawn.image, drawn.held)
        return self._own_loss(
            x, y, y_pred, sample_weight, training, losses=self.losses
        )

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """As in Keras; also builds the metrics on attacked inputs."""
        if outputs := pair_from(y_pred):
            y_pred = outputs.attacked
        if self._robust is not None:
            self._robust.build(y, y_pred, sample_weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def perturb(self, x: Any, y: Any, attack: Attack | None = None) -> Any:
        """Attack a batch as a train or test step does.

        Args:
            x: Tensor of shape `(N, ...)`, or for a model with several inputs a
                list or dictionary of tensors.
            y: Labels as `fit` takes them.
            attack: `None` for the training attack.

        Returns:
            Like `x`.
        """
        batch_attack = self._train_attack
        if attack is not None:
            batch_attack = self._batch_attack(attack, "attack")
        batch = batch_attack.batch(x, y)
        perturbed, _ = batch_attack.run(batch, self._seed_generator)
        return batch_attack.classifier.join(x, perturbed)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.fit`; every source of data is checked."""
        given = arguments_by_name(keras.Model.fit, self, args, kwargs)
        # On JAX an error inside a step would lose the weights.
        if self.compiled:
            x, y, objective = given.get("x"), given.get("y"), self._objective
            check_arrays(self._train_attack, x, y, objective)
        held_out = given.get("validation_data")
        if isinstance(held_out, tuple) and len(held_out) > 1:
            self._check(held_out[0], held_out[1], self._test_attack)
        given["callbacks"] = prepend_callback(
            given.get("callbacks"),
            EpochCallback(self._inspector, self._clock, self._objective),
        )
        self._inspector.reset()
        return super().fit(**given)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`, on clean and on attacked inputs."""
        # Inside `fit`, first check the last training steps of the epoch.
        self._inspector.check()
        given = arguments_by_name(keras.Model.evaluate, self, args, kwargs)
        if not given.get("kwargs"):
            self._check(given.get("x"), given.get("y"), self._test_attack)
        self._evaluating = True
        try:
            result = super().evaluate(*args, **kwargs)
            self._inspector.check()
            return result
        finally:
            self._evaluating = False
            self.sync_state()

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`."""
        checks.check_counts_steps(self._clock)
        self._inspector.reset()
        logs = super().train_on_batch(*args, **kwargs)
        self._inspector.check()
        return logs

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.test_on_batch`, with metrics on attacked inputs."""
        self._inspector.reset()
        logs = super().test_on_batch(*args, **kwargs)
        self._inspector.check()
        return logs

    def get_metrics_result(self) -> dict[str, Any]:
        """Metrics by name; those on attacked inputs in evaluation only."""
        result = super().get_metrics_result()
        result.pop(self._batch_checks.name, None)
        if self._robust is None:
            return result
        for name in self._robust.names():
            result.pop(name, None)
        return {
            **result,
            **(self._robust.results() if self._evaluating else {}),
        }

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Export the inner model, which has the same outputs."""
        return self.model.export(filepath, *args, **kwargs)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.save`, to a `.keras` file; HDF5 is refused."""
        checks.check_filepath(filepath)
        return super().save(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The inner model, the attacks and how they are used."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            **{name: serialize(getattr(self, name)) for name in _OBJECTS},
            "augmentation": self.augmentation,
            "attacked": self.attacked,
            "output": self._output,
            "weight_perturbation": self.weight_perturbation,
            "replays": self.replays,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AdversarialModel":
        """Create a model from the result of `get_config`."""
        deserialize = keras.saving.deserialize_keras_object
        objects = {
            name: deserialize(config[name])
            for name in _OBJECTS
            if name in config
        }
        return cls(**{**config, **objects})

    def _batch_attack(self, attack: Attack, name: str) -> BatchAttack:
        """An attack on the chosen input and output, for a training step."""
        in_step = for_steps(attack)
        checks.check_kind(in_step, name)
        choice = {"attacked": self.attacked, "output": self._output}
        choice = {k: value for k, value in choice.items() if value is not None}
        if choice:
            in_step = in_step.replace(**choice)
        divergence = None
        if name == "attack" and self._objective is not None:
            divergence = self._objective.attack_loss
        batch_attack = BatchAttack(
            self.model,
            in_step,
            lambda: self._loss_parts,
            self._own_loss,
            divergence,
        )
        checks.check_one_for_all(batch_attack, name)
        batch_attack.check_noise()
        return batch_attack

    def _default_validation(self) -> Attack:
        """The attack of training, or what evaluates it."""
        resolved = self._train_attack.attack
        found = resolved.for_validation()
        return self.attack if found is resolved else found

    def _num_classes(self) -> int | None:
        """The number of classes as far as it is known before `compile`."""
        classifier = self._train_attack.classifier
        # A subclass of `keras.Model` has no such attribute.
        outputs = getattr(self.model, "outputs", None) or []
        if len(outputs) > 1 and classifier.output is None:
            return None
        width = classifier.outputs.width
        return None if width is None else max(width, 2)

    def _check(self, x: Any, y: Any, attack: BatchAttack) -> None:
        if self.compiled:
            check_arrays(attack, x, y)
