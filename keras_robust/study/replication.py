"""The replication for one seed, stage by stage."""

import time
from dataclasses import replace
from pathlib import Path

import keras

from keras_robust import backend
from keras_robust import datasets
from keras_robust import models
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.features import Robustifier
from keras_robust.study.evaluating import evaluation
from keras_robust.study.fitting import fit_network
from keras_robust.study.store import StageStore
from keras_robust.study.training_sets import STREAMS
from keras_robust.study.training_sets import controlled
from keras_robust.study.training_sets import is_generated
from keras_robust.study.training_sets import source_of
from keras_robust.study.training_sets import transform_of
from keras_robust.training import AdversarialModel
from keras_robust.version import __version__

# Training images that whitened networks take their patches from.
WHITENED = 5_000


class Replication:
    """Models, generated data sets, one evaluation, for one seed.

    Stages are kept in a folder and found again when nothing they depend on
    has changed: recipe, seed, backend, version of this package.

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

    def __init__(self, recipe, folder, seed=0, verbose=1, logs=None):
        self.logs = logs and Path(logs)
        self.recipe = recipe
        self.seed = seed
        self.verbose = verbose
        key = StageStore.key(self.description())
        self.store = StageStore(f"{folder}/seed{seed}-{backend.name}-{key}")
        self._data = None
        self._networks = {}

    def description(self):
        """All that the results depend on, as plain values."""
        return {
            "recipe": self.recipe.description(),
            "seed": self.seed,
            "backend": backend.name,
            "version": __version__,
        }

    @property
    def data(self):
        """The images that the recipe asks for, as `ImageDataset`."""
        if self._data is None:
            data = datasets.load(self.recipe.dataset)
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
        return self.build(function, options)

    def build(self, function, options):
        """A network under the recipe's dtype policy.

        Args:
            function: Name of a function of `models`.
            options: Its arguments.
        """
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.recipe.dtype_policy)
        try:
            return getattr(models, function)(**options)
        finally:
            keras.config.set_dtype_policy(before)

    def model(self, name):
        """The trained model of that name.

        Args:
            name: One of `recipe.models`.

        Returns:
            A plain Keras model with logits.
        """
        if name not in self._networks:
            self._networks[name] = self.store.model(
                f"model-{name}", lambda: self._train(name)
            )
        return self._networks[name]

    def generated(self, name):
        """The generated data set of that name.

        Args:
            name: Name of a model that is trained on one.

        Returns:
            Dictionary of arrays: `x`, `y` and details of each example.
        """
        return self.store.arrays(f"data-{name}", lambda: self._generate(name))

    def measure(self, name, function):
        """The numbers that a function of `measures` finds, kept.

        Args:
            name: What they are called.
            function: Callable of this object.

        Returns:
            What the function returns: what JSON can hold.
        """

        def make():
            began = self._begin(f"measuring {name}")
            found = function(self)
            self._end(began, f"measuring-{name}")
            return found

        return self.store.numbers(f"measured-{name}", make)

    def curves(self):
        """What `fit_network` told of every trained network, by name."""
        return self.store.all_numbers("curve-")

    def evaluate(self, name):
        """Accuracy of a model, clean and attacked.

        Args:
            name: One of `recipe.models`.

        Returns:
            Dictionary with `"accuracy"`, fractions by attack, and
            `"intervals"`.
        """
        return self.store.numbers(
            f"evaluation-{name}", lambda: self._evaluate(name)
        )

    def seconds(self):
        """How long each finished stage took, when it was made.

        Returns:
            Dictionary of seconds by stage.
        """
        return self.store.all_numbers("seconds-")

    def _train(self, name):
        x, y = self.data.train
        if is_generated(name):
            generated = self.generated(name)
            x, y = generated["x"], generated["y"]
        what = self.recipe.models[name]
        return self.fit(
            name, lambda: self.network(name), (x, y), f"{name} ({what})"
        )

    def fit(self, name, make, train, what):
        """A new network, trained; keeps its curve.

        Args:
            name: One of the recipe's models, before a `"-"` and more.
            make: Callable that gives the network.
            train: `(x, y)`.
            what: What is said of it.

        Returns:
            The plain network.
        """
        began = self._begin(f"training {what}")
        recipe = self.recipe
        keras.utils.set_random_seed(self.seed_of(name))
        network = model = make()
        models.adapt_whitening(network, train[0][:WHITENED])
        if name == "adversarial":
            # Madry's library starts at the image itself: C.3, Table 4.
            attack = PGDAttack(
                epsilon=recipe.epsilon,
                step_size=recipe.epsilon / 5,
                steps=recipe.attack_steps,
            )
            model = AdversarialModel(network, attack)
        curve = fit_network(
            *(model, name.split("-")[0], train, self.data.test, recipe),
            seed=self.seed_of(name),
            folder=self.store.folder / f"backup-{name}",
            logs=self.logs and self.logs / f"seed{self.seed}-{name}",
            verbose=self.verbose,
        )
        self.store.numbers(f"curve-{name}", lambda: curve)
        self._end(began, f"training-{name}")
        return network

    def _generate(self, name):
        source = source_of(name, self.recipe)
        source = None if source is None else self.model(source)
        began = self._begin(f"generating {name}")
        x, y = self.data.train
        transform = self.transform(name, source)
        if isinstance(transform, Robustifier):
            labels = y
            images, details = transform(
                x, verbose=self.verbose, return_details=True
            )
        else:
            options = {} if source is None else {"verbose": self.verbose}
            images, labels, details = transform(
                x, y, return_details=True, **options
            )
        self._end(began, f"generating-{name}")
        return {"x": images, "y": labels, **details}

    def transform(self, name, source):
        """What makes a generated set; see `transform_of`."""
        return transform_of(
            *(name, self.recipe, source, len(self.data.class_names)),
            # A control has the targets of what it controls.
            self.seed_of(controlled(name)),
        )

    def _evaluate(self, name):
        network = self.shared_network(name)
        began = self._begin(f"evaluating {name}")
        found = evaluation(
            *(network, self.data, self.recipe), verbose=self.verbose
        )
        self._end(began, f"evaluating-{name}")
        return found

    def shared_network(self, name):
        """A model's weights in one network, whose attacks are compiled once."""
        model = self.model(name)
        kind = f"evaluated {self.recipe.network_of(name)}"
        if kind not in self._networks:
            self._networks[kind] = self.network(name)
        self._networks[kind].set_weights(model.get_weights())
        return self._networks[kind]

    def seed_of(self, name):
        """Another stream for every model and data set."""
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

    def _end(self, began, stage):
        seconds = round(time.monotonic() - began, 1)
        self.store.numbers(f"seconds-{stage}", lambda: seconds)
        if self.verbose:
            print(f"  done in {seconds} s", flush=True)


def _first(split, count):
    x, y = split
    return x[:count], y[:count]
