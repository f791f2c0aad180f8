"""A study for one seed, stage by stage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

import keras

from keras_robust import backend
from keras_robust import datasets
from keras_robust import models
from keras_robust.study.data import choose
from keras_robust.study.replication.backup import Stopwatch
from keras_robust.study.replication.evaluating import evaluation
from keras_robust.study.replication.fitting import CompiledNetworks
from keras_robust.study.replication.fitting import Split
from keras_robust.study.replication.fitting import fit_network
from keras_robust.study.replication.fitting import training_attack
from keras_robust.study.replication.generating import describe_generated
from keras_robust.study.replication.generating import generate
from keras_robust.study.replication.generating import transform_of
from keras_robust.study.replication.networks import NetworkSpec
from keras_robust.study.replication.results import Evaluation
from keras_robust.study.replication.results import FittedCurve
from keras_robust.study.replication.stages import Description
from keras_robust.study.replication.stages import architecture_description
from keras_robust.study.replication.stages import evaluation_description
from keras_robust.study.replication.stages import measure_description
from keras_robust.study.replication.stages import model_description
from keras_robust.study.replication.stages import set_description
from keras_robust.study.replication.store import Arrays
from keras_robust.study.replication.store import StageStore
from keras_robust.study.replication.training_sets import stream_of
from keras_robust.training import AdversarialModel
from keras_robust.transforms import Transform
from keras_robust.version import __version__

if TYPE_CHECKING:
    from keras_robust.study.study import Study

T = TypeVar("T")
# Training images that the first layer of whitened networks is adapted to.
WHITENING_IMAGES = 5_000
# Names of what is measured besides the accuracies, see `measures`.
MEASURES = ("decomposition", "leakage", "nearest", "transfer", "autoattack")


class Replication:
    """Models, generated data sets and evaluations of a study, for one seed.

    Finished stages are kept in a folder and found again when nothing they
    depend on has changed: images, networks and those settings of the study
    that they are made of, seed, backend, version of this package. A training
    that was stopped resumes after its last state, which is kept every ten
    seconds or epoch, whichever is longer; a generated set after its
    last shard.

    Args:
        recipe: A `Study` with a number for every radius, such as a recipe or
            what `Study.resolve` returns.
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
        recipe: Study,
        folder: str | os.PathLike[str],
        seed: int = 0,
        verbose: int = 1,
        logs: str | os.PathLike[str] | None = None,
    ) -> None:
        self.logs = None if logs is None else Path(logs)
        self.recipe = recipe
        self.seed = seed
        self.verbose = verbose
        self.store = StageStore(f"{folder}/seed{seed}-{backend.name}")
        self._data: datasets.ImageDataset | None = None
        self._networks: dict[str, keras.Model] = {}
        self._shared_networks: dict[str, keras.Model] = {}
        self._compiled: CompiledNetworks = {}

    def description(self) -> Description:
        """All that the results depend on, as plain values."""
        return self._described(self.recipe.description())

    def _described(self, inputs: Description) -> Description:
        """What a stage depends on, with what all stages depend on."""
        return {
            "recipe": inputs,
            "seed": self.seed,
            "backend": backend.name,
            "version": __version__,
        }

    @property
    def data(self) -> datasets.ImageDataset:
        """The images that the study uses, in [0, 1]."""
        if self._data is None:
            self._data = choose(
                self.recipe.read(),
                train_images=self.recipe.train_images,
                test_images=self.recipe.test_images,
                validation_images=self.recipe.validation_images,
            )
        return self._data

    def network(self, name: str = "standard") -> keras.Model:
        """A new network of the kind that a model has.

        Args:
            name: One of `recipe.models`.
        """
        return self.recipe.build(self.recipe.network_of(name))

    def model(self, name: str) -> keras.Model:
        """The trained model of that name.

        Args:
            name: One of `recipe.models`.

        Returns:
            A plain Keras classifier of images in [0, 1].
        """
        taken = self.recipe.stand_ins.get(name)
        if taken is not None and taken.model is not None:
            return taken.model
        if name not in self._networks:
            self._networks[name] = self._kept_model(
                name,
                self.recipe.network_of(name),
                model_description(self.recipe, name),
                lambda: self._train(name),
            )
        return self._networks[name]

    def _kept_model(
        self,
        name: str,
        network: NetworkSpec,
        inputs: Description,
        make: Callable[[], keras.Model],
    ) -> keras.Model:
        """A trained network from its file, or as it is made now."""
        found = self._stored_model(f"model-{name}", network, inputs, make)
        self._forget(f"backup-{name}", inputs)
        return found

    def _stored_model(
        self,
        stage: str,
        network: NetworkSpec,
        inputs: Description,
        make: Callable[[], keras.Model],
    ) -> keras.Model:
        """What `_kept_model` returns.

        Of a network of the user the weights are kept, and its function builds
        it: layers of the user need not be registered with Keras.
        """
        described = self._described(inputs)
        if isinstance(network, tuple):
            return self.store.model(stage, described, make)
        made: list[keras.Model] = []

        def weights() -> Arrays:
            made.append(make())
            values = made[0].get_weights()
            return {f"{i:04d}": value for i, value in enumerate(values)}

        kept = self.store.arrays(stage, described, weights)
        if made:
            return made[0]
        model = self.recipe.build(network)
        model.set_weights([kept[key] for key in sorted(kept)])
        return model

    def architecture(self, base: str, name: str) -> keras.Model:
        """A network of another architecture, trained as a model of the recipe.

        Args:
            base: One of `recipe.models`, whose training and images it has.
            name: One of `recipe.architectures`.

        Returns:
            A plain Keras classifier of images in [0, 1].
        """
        key = f"{base}-{name}"
        if key not in self._networks:
            self._networks[key] = self._kept_model(
                key,
                self.recipe.network_spec(self.recipe.architectures[name]),
                architecture_description(self.recipe, base, name),
                lambda: self._train(base, name),
            )
        return self._networks[key]

    def generated(self, name: str) -> Arrays:
        """The generated data set of that name.

        Args:
            name: Name of a model that is trained on one.

        Returns:
            Dictionary of arrays: `x`, in [0, 1], `y` and details of each
            example.
        """
        taken = self.recipe.stand_ins.get(name)
        if taken is not None and taken.arrays is not None:
            return taken.arrays
        inputs = set_description(self.recipe, name)
        found = self.store.arrays(
            f"data-{name}",
            self._described(inputs),
            lambda: self._generate(name),
        )
        self._forget(f"shards-{name}", inputs)
        return found

    def describe_generated(self, name: str) -> dict[str, float | None]:
        """Means over a generated set, see `generating.describe_generated`.

        Args:
            name: Name of a model that is trained on a generated set.
        """
        return self.store.numbers(
            f"generated-{name}",
            self._described(set_description(self.recipe, name)),
            lambda: describe_generated(self.generated(name)),
        )

    def measure(self, name: str, function: Callable[[Replication], T]) -> T:
        """Call a function of `measures`, or return what it found before.

        Args:
            name: Name under which the result is kept.
            function: Callable of this object that returns what JSON can hold.

        Returns:
            What the function returns.
        """
        inputs = measure_description(self.recipe, name)

        def make() -> T:
            stopwatch = self._begin(f"measuring {name}")
            found = function(self)
            self._end(stopwatch, f"measuring-{name}", inputs)
            return found

        return self.store.numbers(
            f"measured-{name}", self._described(inputs), make
        )

    def evaluate(self, name: str) -> Evaluation:
        """Clean and robust accuracy of a model.

        Args:
            name: One of `recipe.models`.
        """
        inputs = evaluation_description(self.recipe, name)
        found = self.store.numbers(
            f"evaluation-{name}",
            self._described(inputs),
            lambda: self._evaluate(name),
        )
        self._forget(f"state-{name}", inputs)
        return found

    def _forget(self, stage: str, inputs: Description) -> None:
        """Remove what was kept for a stop of a stage whose result is kept."""
        folder = self.store.path(stage, self._described(inputs))
        shutil.rmtree(folder, ignore_errors=True)

    def curves(self) -> dict[str, FittedCurve]:
        """How the training of each network went, by name."""
        return self._kept("curve", self._trainings())

    def seconds(self) -> dict[str, float]:
        """How long each finished stage took when it was made, by stage.

        Of trainings and generated sets that were stopped, all pieces are
        counted; of other stages the last.
        """
        recipe = self.recipe
        stages = {
            f"training-{name}": inputs
            for name, inputs in self._trainings().items()
        }
        for name in recipe.models:
            if recipe.training_set(name).is_generated:
                stages[f"generating-{name}"] = set_description(recipe, name)
            stages[f"evaluating-{name}"] = evaluation_description(recipe, name)
        for name in MEASURES:
            stages[f"measuring-{name}"] = measure_description(recipe, name)
        return self._kept("seconds", stages)

    def _trainings(self) -> dict[str, Description]:
        """What each network of the recipe depends on, by name."""
        recipe = self.recipe
        found = {
            name: model_description(recipe, name) for name in recipe.models
        }
        bases = [base for base in ("standard", "D_det") if base in found]
        for name in recipe.architectures:
            for base in bases:
                found[f"{base}-{name}"] = architecture_description(
                    recipe, base, name
                )
        return found

    def _kept(
        self, prefix: str, stages: dict[str, Description]
    ) -> dict[str, Any]:
        """Kept numbers of the finished ones among these stages."""
        found = {
            stage: self.store.find_numbers(
                f"{prefix}-{stage}", self._described(inputs)
            )
            for stage, inputs in stages.items()
        }
        return {
            stage: value for stage, value in found.items() if value is not None
        }

    def _train(self, base: str, architecture: str | None = None) -> keras.Model:
        """Train a new network and keep its curve."""
        x, y = self._images_of(base)
        recipe = self.recipe
        if architecture is None:
            name = base
            network = self.recipe.network_of(base)
            inputs = model_description(recipe, base)
        else:
            name = f"{base}-{architecture}"
            network = recipe.network_spec(recipe.architectures[architecture])
            inputs = architecture_description(recipe, base, architecture)
        seed = self.seed_of(base, architecture)
        backup = self.store.path(f"backup-{name}", self._described(inputs))
        stopwatch = self._begin(
            f"training {name} ({recipe.models[base]})", backup
        )
        keras.utils.set_random_seed(seed)
        plain = model = self.recipe.build(network)
        is_named = isinstance(network, tuple)
        if is_named:
            models.adapt_whitening(plain, x[:WHITENING_IMAGES])
        if base == "adversarial":
            model = AdversarialModel(plain, training_attack(recipe))
        curve = fit_network(
            model,
            name=base,
            train=(x, y),
            test=self.data.test,
            recipe=recipe,
            seed=seed,
            num_classes=len(self.data.class_names),
            folder=backup,
            stopwatch=stopwatch,
            logs=self.logs and self.logs / f"seed{self.seed}-{name}",
            verbose=self.verbose,
            compiled=self._compiled if is_named and model is plain else None,
        )
        self.store.numbers(
            f"curve-{name}", self._described(inputs), lambda: curve
        )
        self._end(stopwatch, f"training-{name}", inputs)
        return plain

    def _images_of(self, name: str) -> Split:
        """Images and labels that a model is trained on."""
        if self.recipe.training_set(name).is_generated:
            generated = self.generated(name)
            return generated["x"], generated["y"]
        x, y = self.data.train
        return x, y

    def _generate(self, name: str) -> Arrays:
        source = self.recipe.source_of(name)
        network = None if source is None else self.model(source)
        inputs = set_description(self.recipe, name)
        parts = StageStore(
            self.store.path(f"shards-{name}", self._described(inputs))
        )
        stopwatch = self._begin(f"generating {name}", parts.folder)
        x, y = self.data.train
        arrays = generate(
            self.transform(name, network),
            x=x,
            y=y,
            num_classes=len(self.data.class_names),
            parts=parts,
            stopwatch=stopwatch,
            verbose=self.verbose,
        )
        self._end(stopwatch, f"generating-{name}", inputs)
        return arrays

    def transform(self, name: str, source: keras.Model | None) -> Transform:
        """The transform that generates a set, see `generating.transform_of`.

        Args:
            name: Name of a model that is trained on a generated set.
            source: The model whose features it takes; `None` for a control.
        """
        made = self.recipe.training_set(name)
        return transform_of(
            made,
            recipe=self.recipe,
            source=source,
            num_classes=len(self.data.class_names),
            # A control has the targets of what it controls.
            seed=self.seed_of(made.base),
        )

    def _evaluate(self, name: str) -> Evaluation:
        network = self.shared_network(name)
        stopwatch = self._begin(f"evaluating {name}")
        inputs = evaluation_description(self.recipe, name)
        state = self.store.path(f"state-{name}", self._described(inputs))
        found = evaluation(
            network,
            data=self.data,
            recipe=self.recipe,
            state_path=state,
            verbose=self.verbose,
        )
        self._end(stopwatch, f"evaluating-{name}", inputs)
        return found

    def shared_network(self, name: str) -> keras.Model:
        """A network with a model's weights, shared by models of one kind.

        So attacks are compiled once for all of them.

        Args:
            name: One of `recipe.models`.
        """
        model = self.model(name)
        taken = self.recipe.stand_ins.get(name)
        if taken is not None and taken.model is not None:
            return model
        kind = repr(self.recipe.network_of(name))
        if kind not in self._shared_networks:
            self._shared_networks[kind] = self.network(name)
        self._shared_networks[kind].set_weights(model.get_weights())
        return self._shared_networks[kind]

    def seed_of(self, name: str, architecture: str | None = None) -> int:
        """Seed of the random numbers of a model, set or measure.

        Args:
            name: Of a model, a set or a measure.
            architecture: One of `recipe.architectures`, for a network of
                another architecture.
        """
        stream = stream_of(name)
        if architecture is not None:
            place = list(self.recipe.architectures).index(architecture)
            stream += 100 * (1 + place)
        return 1000 * self.seed + stream

    def _begin(self, what: str, folder: Path | None = None) -> Stopwatch:
        """Announce a stage, whose state is kept in a folder if it has one."""
        if self.verbose:
            print(f"[seed {self.seed}] {what} ...", flush=True)
        return Stopwatch(folder and folder / "seconds.json")

    def _end(
        self, stopwatch: Stopwatch, stage: str, inputs: Description
    ) -> None:
        """Keep how long a stage took."""
        seconds = round(stopwatch.seconds, 1)
        self.store.numbers(
            f"seconds-{stage}", self._described(inputs), lambda: seconds
        )
        if self.verbose:
            print(f"  done in {seconds} s", flush=True)
