"""The search for what decides whether a network learns a data set."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_robust import datasets
from keras_robust import models
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.evaluation import evaluate_robustness
from keras_robust.evaluation.evaluate import predict_labels
from keras_robust.study.optimizer_space import l2_of
from keras_robust.study.optimizer_space import optimizer_of
from keras_robust.study.plateau_monitor import PlateauMonitor

OBJECTIVES = ("val_accuracy", "val_robust_accuracy")


class OptimizerSearch(keras_tuner.HyperModel):
    """Trains networks with the optimizers of a space, several seeds each.

    A `keras_tuner.HyperModel` for any tuner. A setting is judged by clean
    images that nothing was trained on, after the last epoch (Ilyas et al.
    2019, appendix D.4: a split of D_rand cannot tell when to stop). Each
    training is kept as a file, so a search that was killed trains none twice.

    Args:
        train: `(x, t)`, images and labels to learn.
        validation: `(x, y)`, clean images that are judged by; no test images.
        test: `(x, y)`, clean test images; reported, and nothing is chosen by
            them.
        space: An `OptimizerSpace`.
        folder: Where the trainings are kept.
        epochs: Int, where a tuner does not say how many.
        seeds: Int >= 1, trainings of each setting.
        epsilon: L2 radius of `val_robust_accuracy`, in units of images in
            [0, 1]: PGD, 10 steps, on the validation images; `None` for none.
        padding: Pixels of shift in the augmentation.
        flip: Whether the augmentation flips.
        verbose: 0 for silence, 1 for a line per training, 2 per epoch.

    Example:

    ```python
    search = keras_robust.study.OptimizerSearch(
        (x, t), validation, test, space, "runs/search"
    )
    tuner = keras_tuner.GridSearch(
        search,
        keras_tuner.Objective("val_accuracy", "max"),
        directory="runs/search",
    )
    tuner.search()
    ```
    """

    def __init__(
        self,
        train: Any,
        validation: Any,
        test: Any,
        space: Any,
        folder: str | os.PathLike,
        epochs: int = 10,
        seeds: int = 2,
        epsilon: Any = None,
        padding: int = 4,
        flip: bool = True,
        verbose: int = 1,
    ) -> None:
        super().__init__(name="optimizer_search")
        self.train = train
        self.validation = validation
        self.test = test
        self.space = space
        self.folder = Path(folder)
        self.epochs = epochs
        self.seeds = seeds
        self.epsilon = epsilon
        self.padding = padding
        self.flip = flip
        self.verbose = verbose
        self.num_classes = int(max(train[1].max(), validation[1].max())) + 1

    def build(self, hp: Any) -> Any:
        """The compiled network of a setting, of the first seed."""
        setting = self.space.choose(hp)
        return self._network(setting, self.epochs, seed=0)

    def fit(
        self,
        hp: Any,
        model: Any,
        *args: Any,
        epochs: int | None = None,
        callbacks: Any = (),
        **kwargs: Any,
    ) -> dict:
        """Trains a setting once for every seed.

        Args:
            hp: `keras_tuner.HyperParameters`.
            model: What `build` returned; every seed has a new one.
            *args: Not used.
            epochs: Int, from a tuner that decides; else `self.epochs`.
            callbacks: Of the tuner, and the user's; of the first seed.
            **kwargs: Not used.

        Returns:
            Dictionary of means over seeds, after the last epoch: `val_accuracy`
            and, where attacked, `val_robust_accuracy`.

        Raises:
            keras_tuner.errors.FatalError: If anything goes wrong: KerasTuner
                would only print other errors, and go on.
        """
        del model, args, kwargs
        try:
            setting = self.space.choose(hp)
            epochs = epochs or self.epochs
            runs = [
                self.run(setting, epochs, seed, () if seed else callbacks)
                for seed in range(self.seeds)
            ]
            kept = [name for name in OBJECTIVES if name in runs[0]]
            return {
                name: float(np.mean([run[name] for run in runs]))
                for name in kept
            }
        except Exception as error:
            raise keras_tuner.errors.FatalError(
                f"A trial failed: {type(error).__name__}: {error}"
            ) from error

    def run(
        self, setting: Any, epochs: int, seed: int | None, callbacks: Any = ()
    ) -> dict:
        """One training, or what is kept of it.

        Args:
            setting: What `OptimizerSpace.choose` returns.
            epochs: Int.
            seed: Int >= 0.
            callbacks: More callbacks of `fit`.

        Returns:
            Dictionary: the setting, `epochs`, `seed`, `val_accuracy` and
            `test_accuracy` after the last epoch, `outcome`, `escape_epoch`,
            `memorization_gap`, `curve`, where attacked `val_robust_accuracy`.
        """
        description = {**setting, "epochs": epochs, "seed": seed}
        text = json.dumps(description, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        path = self.folder / "runs" / f"{key}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        found = {
            **description,
            **self._trained(setting, epochs, seed, callbacks),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".part{os.getpid()}")
        part.write_text(json.dumps(found, indent=2), encoding="utf-8")
        os.replace(part, path)
        if self.verbose:
            print(_line(found), flush=True)
        return found

    def runs(self) -> list:
        """All trainings that are kept, in the order in which they were made."""
        paths = sorted(
            (self.folder / "runs").glob("*.json"),
            key=lambda path: (path.stat().st_mtime_ns, path.name),
        )
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def _network(self, setting, epochs, seed):
        # KerasTuner clears the session, and with it what was seeded before.
        keras.utils.set_random_seed(seed)
        function, options = self.space.networks[setting["network"]]
        model = getattr(models, function)(
            **{**options, "weight_decay": l2_of(setting)}
        )
        per_epoch = -(-len(self.train[0]) // setting["batch_size"])
        model.compile(
            optimizer_of(setting, epochs * per_epoch),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    def _trained(self, setting, epochs, seed, callbacks):
        model = self._network(setting, epochs, seed)
        monitor = PlateauMonitor(1 / self.num_classes)
        x, y = self.train
        batches = datasets.pipeline(
            x,
            y,
            batch_size=setting["batch_size"],
            shuffle=True,
            augment=setting["augment"],
            padding=self.padding,
            flip=self.flip,
            seed=seed,
        )
        x, y = self.validation
        model.fit(
            batches,
            validation_data=datasets.pipeline(x, y, batch_size=256),
            epochs=epochs,
            shuffle=False,
            verbose=2 if self.verbose > 1 else 0,
            callbacks=[*callbacks, monitor],
        )
        x, y = self.test
        found = {
            "val_accuracy": monitor.curve["val_accuracy"][-1],
            "train_accuracy": monitor.curve["accuracy"][-1],
            "test_accuracy": float((predict_labels(model, x) == y).mean()),
            "outcome": monitor.outcome,
            "escape_epoch": monitor.escape_epoch,
            "memorization_gap": monitor.memorization_gap,
            "curve": monitor.curve,
        }
        if self.epsilon is not None:
            attack = PGDAttack(epsilon=self.epsilon, steps=10)
            report = evaluate_robustness(
                model, self.validation, {"pgd": attack}, verbose=0, probe=False
            )
            found["val_robust_accuracy"] = report.accuracy["pgd"]
        return found


def _line(found):
    """A training in a line, for a log."""
    return (
        f"{found['optimizer']} {found['learning_rate']:.3g} "
        f"{found['schedule']} batch {found['batch_size']} "
        f"{'augmented ' if found['augment'] else ''}{found['network']} "
        f"decay {found['weight_decay']:g} seed {found['seed']}: "
        f"{found['outcome']}, train {found['train_accuracy']:.3f}, "
        f"clean {found['val_accuracy']:.3f}"
    )
