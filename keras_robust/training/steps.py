"""The train and test steps of adversarial training."""

from typing import Any

import keras
from keras import ops

from keras_robust import backend
from keras_robust.objectives import TrainingObjective
from keras_robust.training.augmentation import Drawn
from keras_robust.training.augmentation import Front
from keras_robust.training.batch_attack import Batch
from keras_robust.training.batch_attack import BatchAttack
from keras_robust.training.evaluation_seeds import state_of_batch
from keras_robust.training.inner_model import OwnLoss
from keras_robust.training.movement import movement
from keras_robust.training.objective_loss import check_task
from keras_robust.training.objective_loss import own_loss
from keras_robust.training.pairs import Pair
from keras_robust.training.pairs import pair_from
from keras_robust.training.replays import move
from keras_robust.training.replays import replay
from keras_robust.training.replays import start
from keras_robust.training.robust_metrics import RobustMetrics
from keras_robust.training.schedules import EpsilonClock
from keras_robust.training.source_checks import FINDINGS
from keras_robust.training.source_checks import BatchChecks
from keras_robust.training.source_checks import BatchInspector
from keras_robust.training.source_checks import StepContext
from keras_robust.training.tasks import OTHER
from keras_robust.training.weight_perturbation import weight_shifts

# The name in saved files of the state of random starts.
_RANDOM_STATE = "random_state"


class AttackedSteps(backend.Trainer, keras.Model):
    """A model whose train and test steps attack a batch first.

    Attributes:
        weight_perturbation: Size of adversarial weight perturbations, 0 for
            none.
        replays: How often each batch is trained on.
    """

    train_function: Any
    test_function: Any
    weight_perturbation: float
    replays: int
    _train_attack: BatchAttack
    _test_attack: BatchAttack
    _objective: TrainingObjective | None
    _own_loss: OwnLoss | None
    _front: Front | None
    _clock: EpsilonClock | None
    _seed_generator: Any
    _test_seed: Any
    _batch_checks: BatchChecks
    _inspector: BatchInspector
    _robust: RobustMetrics | None

    def attacked_batch(self, data: Any) -> tuple[Any, Any]:
        """The batch that a training step trains on, and findings about it.

        Args:
            data: As in `train_step`.

        Returns:
            The data with attacked inputs, and the findings as logs.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        attack, front = self._train_attack, self._front
        batch, epsilon, findings = self._batch_to_attack(x, y)
        perturbed, moves = attack.run(
            batch, self._seed_generator, epsilon, front
        )
        first = self._batch_checks.is_first
        findings |= movement(
            attack, batch, perturbed, moves, first, epsilon, front
        )
        self._add_findings(findings, attack, batch, "train")
        attacked = self._inputs(x, batch, perturbed)
        if front is not None:
            x = self._inputs(x, batch, batch.image)
        y = attack.safe_labels(batch)
        if self._objective is None:
            x = attacked
        else:
            labels = attack.class_numbers(y, batch.task)
            x = Pair(x, attacked, labels).as_dict()
        data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        return data, {FINDINGS: self._batch_checks.result()}

    def _batch_to_attack(
        self, x: Any, y: Any
    ) -> tuple[Batch, Any, dict[str, Any]]:
        """A batch after the layers in front, its radius, and findings."""
        attack, front, epsilon = self._train_attack, self._front, None
        if self._clock is not None:
            epsilon = self._clock.epsilon(attack.attack.epsilon)
            self._clock.advance()
        batch = attack.batch(x, y)
        if self._objective is not None:
            check_task(self._objective, attack, batch.task)
        findings = attack.findings(batch)
        if front is not None:
            value_range = attack.attack.value_range
            batch = batch._replace(image=front.draw(batch.image, value_range))
        return batch, epsilon, findings

    def _inputs(self, x: Any, batch: Batch, image: Any) -> Any:
        """What the model takes, with an image in place of the batch's."""
        if self._front is None:
            return self._train_attack.classifier.join(x, image)
        return Drawn(image, batch.held).as_inputs()

    def replayed_step(self, data: Any) -> dict[str, Any]:
        """Train on a batch `replays` times, while the perturbation moves.

        Args:
            data: As in `train_step`.

        Returns:
            The logs of a training step, with findings.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        attack, front = self._train_attack, self._front
        batch, epsilon, findings = self._batch_to_attack(x, y)
        y = attack.safe_labels(batch)
        image = start(attack, batch, self._seed_generator, epsilon)
        logs: dict[str, Any] = {}
        overflows = 0.0
        for _ in range(self.replays):
            gradient, overflow, logs = replay(
                self,
                image,
                lambda image: self._inputs(x, batch, image),
                y,
                sample_weight,
                self._replicas,
            )
            image = move(attack, batch, image, gradient, epsilon)
            overflows += overflow
        first = self._batch_checks.is_first
        findings |= movement(attack, batch, image, None, first, epsilon, front)
        # A gradient that overflows with the loss scale is one to follow once
        # the optimizer has lowered the scale.
        findings["moved"] = findings.get("moved", 0.0) + overflows
        self._add_findings(findings, attack, batch, "train")
        return {**logs, FINDINGS: self._batch_checks.result()}

    def weight_shifts(self, data: Any) -> list[Any] | None:
        """Adversarial weight perturbations for a batch.

        Args:
            data: Result of `attacked_batch`.

        Returns:
            What to add to each trainable variable in the training step, and
            to subtract after it; `None` for no perturbation.
        """
        if not self.weight_perturbation:
            return None
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

        def loss() -> Any:
            outputs = self(x, training=True)
            total = self.compute_loss(x, y, outputs, sample_weight)
            total = total - self.added_losses()
            pair = pair_from(outputs)
            return total if pair is None else total - self._added_to(pair)

        return weight_shifts(self, loss, self.weight_perturbation)

    def added_losses(self) -> Any:
        """The part of `compute_loss` that layers and regularizers add."""
        if self._own_loss is not None:
            # It may leave them out.
            return 0.0
        return sum(ops.sum(loss) for loss in self.losses) / self._replicas

    def pair_outputs(self, pair: Pair, training: bool | None) -> Pair:
        """Outputs for both inputs, and what layers add to the loss for each.

        Args:
            pair: Clean and attacked inputs.
            training: As in a call of the model.
        """
        outputs, losses = [], [list(self.losses)]
        for inputs in (pair.clean, pair.attacked):
            outputs.append(self.call(inputs, training))
            losses.append(list(self.losses))
        before, between, after = losses
        if len(after) == len(before):
            return Pair(outputs[0], outputs[1])
        # The losses of weights are in all three.
        of_weights, clean, kept = (
            ops.cast(sum(ops.sum(loss) for loss in found), "float32")
            for found in losses
        )
        clean, kept = clean - of_weights, kept - of_weights
        # On JAX the second pass clears what the first one added.
        attacked = kept if len(after) == len(between) else kept - clean
        return Pair(
            outputs[0], outputs[1], added=ops.stack([clean, attacked, kept])
        )

    def pair_loss(
        self,
        objective: TrainingObjective,
        x: Pair,
        y: Any,
        y_pred: Pair,
        sample_weight: Any,
        training: bool,
    ) -> Any:
        """The loss of an objective; see `compute_loss`.

        Args:
            objective: The objective.
            x: Clean and attacked inputs.
            y: As in `compute_loss`.
            y_pred: Outputs for both.
            sample_weight: As in `compute_loss`.
            training: As in `compute_loss`.
        """
        total, rest = 0.0, 1.0
        for weight, inputs, outputs in (
            (objective.clean_weight, x.clean, y_pred.clean),
            (objective.attacked_weight, x.attacked, y_pred.attacked),
        ):
            if weight:
                loss = self.compute_loss(
                    inputs, y, outputs, sample_weight, training
                )
                total, rest = total + weight * loss, rest - weight
        if abs(rest) > 1e-9:
            # Every compiled loss above includes them.
            total = total + rest * self.added_losses()
        total = total + self._added_to(y_pred)
        own = own_loss(
            objective, self._train_attack, x.labels, y_pred, sample_weight
        )
        return total if own is None else total + own

    def _added_to(self, outputs: Pair) -> Any:
        """What layers add for both inputs, beyond what `losses` holds of it.

        Args:
            outputs: Result of `pair_outputs`.
        """
        objective = self._objective
        has_none = outputs.added is None or self._own_loss is not None
        if objective is None or has_none:
            return 0.0
        clean, attacked, kept = ops.unstack(outputs.added, 3)
        added = (
            objective.clean_weight * clean
            + objective.attacked_weight * attacked
        )
        return (added - kept) / self._replicas

    @property
    def _replicas(self) -> int:
        strategy = getattr(self, "distribute_strategy", None)
        return getattr(strategy, "num_replicas_in_sync", 1)

    def _add_findings(
        self,
        findings: dict[str, Any],
        attack: BatchAttack,
        batch: Batch,
        step: str,
    ) -> None:
        """Add findings of a batch to those of the epoch."""
        self._inspector.context[step] = StepContext(
            value_range=attack.attack.value_range,
            num_classes=attack.num_classes(batch),
            replicas=self._replicas,
            rank=len(batch.image.shape),
        )
        self._batch_checks.update_state(findings)

    def safe_batch(self, data: Any) -> Any:
        """A batch for evaluation, with invalid class numbers clipped.

        Args:
            data: `(x, y)` or `(x, y, sample_weight)`.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y = self._test_attack.safe_labels(self._test_attack.batch(x, y))
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def robust_test_step(self, data: Any) -> dict[str, Any]:
        """Attack a batch and add it to the metrics on attacked inputs.

        Returns:
            Their logs so far, and the findings.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        attack = self._test_attack
        batch = attack.batch(x, y)
        known = [*self.variables, *self.metrics_variables]
        mapping = [(variable, variable.value) for variable in known]
        seed = self._seed_generator
        state = state_of_batch(self._test_seed, self._batch_checks.batches)
        # Random starts of training must not depend on evaluations.
        with keras.StatelessScope([*mapping, (seed.state, state)]):
            perturbed, moves = attack.run(batch, seed)
        findings = attack.findings(batch)
        first = self._batch_checks.is_first
        findings |= movement(attack, batch, perturbed, moves, first)
        self._add_findings(findings, attack, batch, "test")
        x, y = attack.classifier.join(x, perturbed), attack.safe_labels(batch)
        # Metrics of the clean loss must not count this one.
        with keras.StatelessScope(mapping, collect_losses=True):
            outputs = self(x, training=False)
            loss = self.compute_loss(
                x, y, outputs, sample_weight, training=False
            )
        robust = self._compiled_robust_metrics()
        # The trainer of Keras does the same with the clean loss.
        loss = ops.cast(loss, "float32") * float(self._replicas)
        robust.loss.add(loss, ops.shape(batch.image)[0])
        robust.update(y, outputs, sample_weight)
        robust.classifies = batch.task != OTHER
        if robust.classifies:
            robust.accuracy.add(attack.is_right(batch, outputs))
        logs = robust.results()
        return {**logs, FINDINGS: self._batch_checks.result()}

    def save_own_variables(self, store: Any) -> None:
        """As in Keras, with the state of random starts, which it leaves out."""
        super().save_own_variables(store)
        state = self._seed_generator.state
        store[_RANDOM_STATE] = ops.convert_to_numpy(state)

    def load_own_variables(self, store: Any) -> None:
        """As in Keras; files of earlier versions hold no random state."""
        # No dictionary: it cannot be iterated over.
        found = {name: store[name] for name in list(store.keys())}
        state = found.pop(_RANDOM_STATE, None)
        super().load_own_variables(found)
        if state is not None:
            self._seed_generator.state.assign(state)

    def _compiled_robust_metrics(self) -> RobustMetrics:
        if self._robust is None:
            raise ValueError(f"Model {self.name!r} must be compiled first.")
        return self._robust

    def make_train_function(self, force: bool = False) -> Any:
        """As in Keras, with findings taken out of the logs."""
        is_old = self.train_function is not None and not force
        super().make_train_function(force)
        if not is_old:
            self.train_function = self._inspector.wrap(
                self.train_function, "train"
            )

    def make_test_function(self, force: bool = False) -> Any:
        """As in Keras, with findings taken out of the logs."""
        is_old = self.test_function is not None and not force
        super().make_test_function(force)
        if not is_old:
            self.test_function = self._inspector.wrap(
                self.test_function, "test"
            )
