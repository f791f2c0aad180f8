"""The replication for one seed, stage by stage."""

import time
from dataclasses import asdict

import keras
import numpy as np

from keras_robust import backend
from keras_robust import datasets
from keras_robust import models
from keras_robust.attacks.fgsm import FGSMAttack
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.attacks.radii import matched_epsilon
from keras_robust.evaluation import evaluate_robustness
from keras_robust.evaluation.evaluate import predict_labels
from keras_robust.features import Robustifier
from keras_robust.study.optimizers import make_optimizer
from keras_robust.study.store import StageStore
from keras_robust.study.training_sets import GENERATED
from keras_robust.study.training_sets import MODELS
from keras_robust.study.training_sets import STREAMS
from keras_robust.study.training_sets import controlled
from keras_robust.study.training_sets import transform_of
from keras_robust.training import AdversarialModel
from keras_robust.version import __version__


class Replication:
    """Models, generated data sets, one evaluation, for one seed.

    Stages are kept in a folder and found again when nothing they depend on
    has changed: recipe, seed, backend, version of this package.

    Args:
        recipe: A `Recipe`.
        folder: Where stages are kept.
        seed: Int >= 0.
        verbose: 0 for silence, 1 for a line per stage and progress bars.

    Example:

    ```python
    study = Replication(get_recipe("digits"), "runs/digits", seed=0)
    model = study.model("D_R")
    study.evaluate("D_R")["accuracy"]
    ```
    """

    def __init__(self, recipe, folder, seed=0, verbose=1):
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
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "backend": backend.name,
            "version": __version__,
        }

    @property
    def data(self):
        """The images that the recipe asks for, as `ImageDataset`."""
        if self._data is None:
            data = datasets.load(self.recipe.dataset)
            self._data = datasets.ImageDataset(
                _first(data.train, self.recipe.train_images),
                _first(data.test, self.recipe.test_images),
                data.class_names,
            )
        return self._data

    def network(self):
        """A new network of the recipe's kind."""
        make = getattr(models, self.recipe.network)
        return make(**self.recipe.network_options)

    def model(self, name):
        """The trained model of that name.

        Args:
            name: A key of `MODELS`.

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
            name: One of `GENERATED`.

        Returns:
            Dictionary of arrays: `x`, `y` and details of each example.
        """
        return self.store.arrays(f"data-{name}", lambda: self._generate(name))

    def evaluate(self, name):
        """Accuracy of a model, clean and attacked.

        Args:
            name: A key of `MODELS`.

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

    def attacks(self):
        """The evaluation's attacks by name."""
        recipe = self.recipe
        dimension = int(np.prod(self.data.train[0].shape[1:]))
        attacks = {}
        for radius in recipe.radii:
            attacks[f"pgd-l2-{radius:g}"] = PGDAttack(
                epsilon=radius, steps=recipe.evaluation_steps
            )
        matched = [
            matched_epsilon(radius, "l2", "linf", dimension)
            for radius in recipe.radii
        ]
        for radius in matched:
            attacks[f"pgd-linf-{radius:.3g}"] = PGDAttack(
                norm="linf", epsilon=radius, steps=recipe.evaluation_steps
            )
        attacks[f"fgsm-linf-{matched[-1]:.3g}"] = FGSMAttack(
            epsilon=matched[-1]
        )
        return attacks

    def _train(self, name):
        x, y = self.data.train
        if name in GENERATED:
            generated = self.generated(name)
            x, y = generated["x"], generated["y"]
        began = self._begin(f"training {name} ({MODELS[name]})")
        recipe = self.recipe
        training = recipe.training_of(controlled(name))
        seed = self._seed(name)
        keras.utils.set_random_seed(seed)
        network = model = self.network()
        if name == "adversarial":
            # Madry's library starts at the image itself: C.3, Table 4.
            attack = PGDAttack(
                epsilon=recipe.epsilon,
                step_size=recipe.epsilon / 5,
                steps=recipe.attack_steps,
            )
            model = AdversarialModel(network, attack)
        model.compile(
            make_optimizer(training, -(-len(x) // training.batch_size)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        batches = datasets.pipeline(
            x,
            y,
            training.batch_size,
            shuffle=True,
            augment=training.augment,
            padding=recipe.padding,
            flip=recipe.flip,
            seed=seed,
        )
        model.fit(
            batches,
            epochs=training.epochs,
            shuffle=False,
            verbose=self._fit_verbose,
        )
        self._end(began, f"training-{name}")
        return network

    def _generate(self, name):
        robust = name == "D_R" or name.endswith("_robust")
        source = None
        if not name.endswith("_shortcut"):
            source = self.model("adversarial" if robust else "standard")
        began = self._begin(f"generating {name}")
        x, y = self.data.train
        transform = transform_of(
            *(name, self.recipe, source, len(self.data.class_names)),
            # A control has the targets of what it controls.
            self._seed(controlled(name)),
        )
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

    def _evaluate(self, name):
        model = self.model(name)
        began = self._begin(f"evaluating {name}")
        x, y = self.data.test
        # One network for all, so that the attacks are compiled once.
        if "evaluated" not in self._networks:
            self._networks["evaluated"] = self.network()
        network = self._networks["evaluated"]
        network.set_weights(model.get_weights())
        report = evaluate_robustness(
            *(network, (x, y), self.attacks()),
            verbose=self.verbose,
            probe=False,
        )
        shifted = (y + 1) % len(self.data.class_names)
        accuracy = dict(report.accuracy)
        accuracy["y + 1"] = float(
            (predict_labels(network, x) == shifted).mean()
        )
        self._end(began, f"evaluating-{name}")
        return {"accuracy": accuracy, "intervals": report.intervals}

    def _seed(self, name):
        """Another stream for every model and data set."""
        return 1000 * self.seed + STREAMS.index(name)

    @property
    def _fit_verbose(self):
        # 2: a line per epoch, legible in a log.
        return 2 if self.verbose else 0

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
