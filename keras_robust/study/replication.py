"""The replication for one seed, stage by stage."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_robust import backend
from keras_robust import datasets
from keras_robust import models
from keras_robust.study.evaluating import evaluation
from keras_robust.study.fitting import fit_network
from keras_robust.study.recipe import Recipe
from keras_robust.study.stages import architecture_description
from keras_robust.study.stages import evaluation_description
from keras_robust.study.stages import measure_description
from keras_robust.study.stages import model_description
from keras_robust.study.stages import set_description
from keras_robust.study.store import StageStore
from keras_robust.study.training_sets import STREAMS
from keras_robust.study.training_sets import controlled
from keras_robust.study.training_sets import is_generated
from keras_robust.study.training_sets import is_inversion
from keras_robust.study.training_sets import source_of
from keras_robust.study.training_sets import transform_of
from keras_robust.training import AdversarialModel
from keras_robust.transforms import Batch
from keras_robust.version import __version__

# Training images that whitened networks take their patches from.
WHITENED = 5_000
# Images of a generated set that are made, and kept, at once: what is lost when
# a run stops.
SHARD = 2_500
# What is measured beside the accuracies, see `measures`.
MEASURES = ("decomposition", "leakage", "nearest", "transfer", "autoattack")


class Replication:
    """Models, generated data sets, one evaluation, for one seed.

    Stages are kept in a folder and found again when nothing they depend on
    has changed: those parts of the recipe that they are made of, seed,
    backend, version of this package. Trainings go on after the last epoch,
    generated sets after the last `SHARD` images.

    Args:
        recipe: A `Recipe`.
        folder: Where stages are kept.
        seed: Int >= 0.
        verbose: 0 for silence, 1 for a line per stage and progress bars.
        logs: Folder for TensorBoard, or `None`.

    Example:

    ```python
    study = Replication(get_recipe("digits"), "runs/digits", seed=0)
    model = study.model("D_R")
    study.evaluate("D_R")["accuracy"]
    ```
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: str | os.PathLike,
        seed: int = 0,
        verbose: int = 1,
        logs: str | os.PathLike | None = None,
    ) -> None:
        self.logs = logs and Path(logs)
        self.recipe = recipe
        self.seed = seed
        self.verbose = verbose
        self.store = StageStore(f"{folder}/seed{seed}-{backend.name}")
        self._data = None
        self._networks = {}

    def description(self) -> dict[str, Any]:
        """All that the results depend on, as plain values."""
        return self._described(self.recipe.description())

    def _described(self, inputs):
        """What a stage depends on, with what all of them do."""
        return {
            "recipe": inputs,
            "seed": self.seed,
            "backend": backend.name,
            "version": __version__,
        }

    @property
    def data(self) -> datasets.ImageDataset:
        """The images that the recipe asks for."""
        if self._data is None:
            data = datasets.load(self.recipe.dataset)
            held_out = self.recipe.validation_images
            if held_out >= len(data.train[0]):
                raise ValueError(
                    "A recipe must leave images to train on: fewer "
                    f"`validation_images` than the {len(data.train[0])} of "
                    f"{self.recipe.dataset}. "
                    f"Received: validation_images={held_out}"
                )
            if held_out:
                data = replace(
                    data,
                    train=tuple(part[:-held_out] for part in data.train),
                    test=tuple(part[-held_out:] for part in data.train),
                )
            self._data = replace(
                data,
                train=_first(data.train, self.recipe.train_images),
                test=_first(data.test, self.recipe.test_images),
            )
        return self._data

    def network(self, name: str = "standard") -> keras.Model:
        """A new network of the kind that a model has.

        Args:
            name: One of `recipe.models`.
        """
        function, options = self.recipe.network_of(name)
        return self._build(function, options)

    def _build(self, function, options):
        """A network under the recipe's dtype policy."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.recipe.dtype_policy)
        try:
            return getattr(models, function)(**options)
        finally:
            keras.config.set_dtype_policy(before)

    def model(self, name: str) -> keras.Model:
        """The trained model of that name.

        Args:
            name: One of `recipe.models`.

        Returns:
            A plain Keras model with logits.
        """
        if name not in self._networks:
            self._networks[name] = self.store.model(
                f"model-{name}",
                self._described(model_description(self.recipe, name)),
                lambda: self._train(name),
            )
        return self._networks[name]

    def architecture(self, base: str, name: str) -> keras.Model:
        """A network of another architecture, trained as a model of the recipe.

        Args:
            base: One of `recipe.models`, whose training and images it has.
            name: One of `recipe.architectures`.

        Returns:
            A plain Keras model with logits.
        """
        return self.store.model(
            f"model-{base}-{name}",
            self._described(architecture_description(self.recipe, base, name)),
            lambda: self._train(base, name),
        )

    def generated(self, name: str) -> dict[str, np.ndarray]:
        """The generated data set of that name.

        Args:
            name: Name of a model that is trained on one.

        Returns:
            Dictionary of arrays: `x`, `y` and details of each example.
        """
        return self.store.arrays(
            f"data-{name}",
            self._described(set_description(self.recipe, name)),
            lambda: self._generate(name),
        )

    def describe_generated(self, name: str) -> dict[str, float]:
        """Means of what the generator told, and the share of right labels.

        Args:
            name: Name of a model that is trained on a generated set.
        """
        return self.store.numbers(
            f"generated-{name}",
            self._described(set_description(self.recipe, name)),
            lambda: _describe(self.generated(name)),
        )

    def measure(self, name: str, function: Callable[[Any], Any]) -> Any:
        """The numbers that a function of `measures` finds, kept.

        Args:
            name: What they are called.
            function: Callable of this object.

        Returns:
            What the function returns: what JSON can hold.
        """

        inputs = measure_description(self.recipe, name)

        def make():
            began = self._begin(f"measuring {name}")
            found = function(self)
            self._end(began, f"measuring-{name}", inputs)
            return found

        return self.store.numbers(
            f"measured-{name}", self._described(inputs), make
        )

    def evaluate(self, name: str) -> dict[str, dict]:
        """Accuracy of a model, clean and attacked.

        Args:
            name: One of `recipe.models`.

        Returns:
            Dictionary with `"accuracy"`, fractions by attack, and
            `"intervals"`.
        """
        return self.store.numbers(
            f"evaluation-{name}",
            self._described(evaluation_description(self.recipe, name)),
            lambda: self._evaluate(name),
        )

    def curves(self) -> dict[str, dict]:
        """What `fit_network` told of every trained network, by name."""
        return self._kept("curve", self._trainings())

    def seconds(self) -> dict[str, float]:
        """How long each finished stage took, when it was made, by stage."""
        recipe = self.recipe
        stages = {
            f"training-{name}": inputs
            for name, inputs in self._trainings().items()
        }
        for name in recipe.models:
            if is_generated(name):
                stages[f"generating-{name}"] = set_description(recipe, name)
            stages[f"evaluating-{name}"] = evaluation_description(recipe, name)
        for name in MEASURES:
            stages[f"measuring-{name}"] = measure_description(recipe, name)
        return self._kept("seconds", stages)

    def _trainings(self):
        """What each network of the recipe depends on, by name."""
        recipe = self.recipe
        found = {
            name: model_description(recipe, name) for name in recipe.models
        }
        for name in recipe.architectures:
            for base in ("standard", "D_det"):
                found[f"{base}-{name}"] = architecture_description(
                    recipe, base, name
                )
        return found

    def _kept(self, prefix, stages):
        """Finished numbers by stage, of a dictionary of what they depend on."""
        found = {
            stage: self.store.find_numbers(
                f"{prefix}-{stage}", self._described(inputs)
            )
            for stage, inputs in stages.items()
        }
        return {stage: v for stage, v in found.items() if v is not None}

    def _train(self, base, architecture=None):
        """A new network, trained; keeps its curve."""
        x, y = self.data.train
        if is_generated(base):
            generated = self.generated(base)
            x, y = generated["x"], generated["y"]
        recipe = self.recipe
        kind, name = recipe.network_of(base), base
        inputs = model_description(recipe, base)
        if architecture:
            kind = tuple(recipe.architectures[architecture])
            name = f"{base}-{architecture}"
            inputs = architecture_description(recipe, base, architecture)
        began = self._begin(f"training {name} ({recipe.models[base]})")
        keras.utils.set_random_seed(self.seed_of(name))
        network = model = self._build(*kind)
        models.adapt_whitening(network, x[:WHITENED])
        if base == "adversarial":
            model = AdversarialModel(network, recipe.training_attack())
        folder = self.store.path(f"backup-{name}", self._described(inputs))
        curve = fit_network(
            model,
            name=base,
            train=(x, y),
            test=self.data.test,
            recipe=recipe,
            seed=self.seed_of(name),
            folder=folder,
            logs=self.logs and self.logs / f"seed{self.seed}-{name}",
            verbose=self.verbose,
        )
        self.store.numbers(
            f"curve-{name}", self._described(inputs), lambda: curve
        )
        self._end(began, f"training-{name}", inputs)
        return network

    def _generate(self, name):
        """A whole set, made and kept in parts."""
        source = source_of(name, self.recipe)
        source = None if source is None else self.model(source)
        inputs = set_description(self.recipe, name)
        began = self._begin(f"generating {name}")
        x, y = self.data.train
        transform = self.transform(name, source)
        plan = transform.plan(y, len(self.data.class_names))
        parts = StageStore(
            self.store.path(f"shards-{name}", self._described(inputs))
        )
        shards = []
        for first in range(0, len(x), SHARD):
            rows = slice(first, first + SHARD)
            shards.append(
                parts.arrays(
                    f"from-{first}",
                    SHARD,
                    lambda rows=rows: _shard(
                        name, transform, plan, x=x, y=y, rows=rows
                    ),
                )
            )
            if self.verbose and len(x) > SHARD:
                done = min(first + SHARD, len(x))
                print(f"  {done} of {len(x)} images", flush=True)
        whole = {
            key: np.concatenate([shard[key] for shard in shards])
            for key in shards[0]
        }
        shutil.rmtree(parts.folder)
        self._end(began, f"generating-{name}", inputs)
        return whole

    def transform(self, name: str, source: keras.Model | None) -> Any:
        """What makes a generated set; see `transform_of`."""
        return transform_of(
            name,
            recipe=self.recipe,
            source=source,
            num_classes=len(self.data.class_names),
            # A control has the targets of what it controls.
            seed=self.seed_of(controlled(name)),
        )

    def _evaluate(self, name):
        network = self.shared_network(name)
        began = self._begin(f"evaluating {name}")
        inputs = evaluation_description(self.recipe, name)
        state = self.store.path(f"state-{name}", self._described(inputs))
        found = evaluation(
            network,
            data=self.data,
            recipe=self.recipe,
            state_path=state,
            verbose=self.verbose,
        )
        shutil.rmtree(state, ignore_errors=True)
        self._end(began, f"evaluating-{name}", inputs)
        return found

    def shared_network(self, name: str) -> keras.Model:
        """A model's weights in one network, whose attacks are compiled once.

        Args:
            name: One of `recipe.models`.
        """
        model = self.model(name)
        kind = f"evaluated {self.recipe.network_of(name)}"
        if kind not in self._networks:
            self._networks[kind] = self.network(name)
        self._networks[kind].set_weights(model.get_weights())
        return self._networks[kind]

    def seed_of(self, name: str) -> int:
        """Another stream for every model and data set.

        Args:
            name: One of `STREAMS`, or `"base-architecture"`.
        """
        base, _, more = name.partition("-")
        stream = STREAMS.index(base)
        if more:
            # Of networks of other architectures.
            stream += 100 * (1 + list(self.recipe.architectures).index(more))
        return 1000 * self.seed + stream

    def _begin(self, what):
        if self.verbose:
            print(f"[seed {self.seed}] {what} ...", flush=True)
        return time.monotonic()

    def _end(self, began, stage, inputs):
        seconds = round(time.monotonic() - began, 1)
        self.store.numbers(
            f"seconds-{stage}", self._described(inputs), lambda: seconds
        )
        if self.verbose:
            print(f"  done in {seconds} s", flush=True)


def _first(split, count):
    x, y = split
    return x[:count], y[:count]


def _shard(name, transform, plan, x, y, rows):
    """Some rows of a generated set."""
    if is_inversion(name):
        # The call tells more than `make`: distances before and after.
        images, details = transform(
            x[rows],
            start=x[plan["start_id"][rows]],
            verbose=0,
            return_details=True,
        )
        return {"x": images, "y": y[rows], **details}
    labels = plan["label"][rows]
    made = transform.make(
        Batch(
            images=x[rows],
            rows=np.arange(len(x))[rows],
            labels=labels,
            original_labels=y[rows],
        )
    )
    return {**made, "y": labels, "original_label": y[rows]}


def _describe(generated):
    described = {
        key: float(np.mean(generated[key]))
        for key in ("distance_before", "distance_after", "distance", "success")
        if key in generated
    }
    if "original_label" in generated:
        right = generated["y"] == generated["original_label"]
        described["labels_right"] = float(right.mean())
    return described
