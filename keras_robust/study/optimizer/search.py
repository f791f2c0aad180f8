"""The search for what decides whether a network learns a data set."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import cast

import keras
import keras_tuner
import numpy as np

from keras_robust import datasets
from keras_robust import models
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.evaluation import evaluate_robustness
from keras_robust.evaluation.evaluate import predict_labels
from keras_robust.study.optimizer.choices import describe_space
from keras_robust.study.optimizer.hopeless import StopHopeless
from keras_robust.study.optimizer.own_optimizer import takes
from keras_robust.study.optimizer.space import OptimizerSpace
from keras_robust.study.optimizer.trials import Setting
from keras_robust.study.optimizer.trials import Trained
from keras_robust.study.optimizer.trials import Trial
from keras_robust.study.plateau_monitor import PlateauMonitor
from keras_robust.study.replication.fitting import loss_and_metric
from keras_robust.study.replication.networks import build_named
from keras_robust.study.replication.networks import with_dtype_policy
from keras_robust.study.replication.replication import WHITENING_IMAGES
from keras_robust.study.training import Training
from keras_robust.utils.files import json_hash
from keras_robust.utils.files import read_json
from keras_robust.utils.files import write_json

Split = tuple[np.ndarray, np.ndarray]


class OptimizerSearch(keras_tuner.HyperModel):
    """Train networks with the optimizers of a space, several seeds each.

    A `keras_tuner.HyperModel` for any tuner. A setting is judged after the last
    epoch, by clean images that no network was trained on (Ilyas et al. 2019,
    appendix D.4: a split of D_rand cannot tell when to stop). Each training is
    kept as a file, so a search that was killed repeats none.

    Args:
        train: `(x, t)`, images and labels to learn.
        validation: `(x, y)`, clean images that settings are judged by; not
            test images.
        test: `(x, y)`, clean test images, which are reported and decide
            nothing.
        space: An `OptimizerSpace`.
        folder: Where the trainings are kept.
        epochs: Int, unless the tuner decides.
        seeds: Int >= 1, trainings of each setting.
        epsilon: L2 radius of `val_robust_accuracy`, in units of images in
            [0, 1]: PGD, 10 steps, on the validation images; `None` for none.
        padding: Pixels of shift in the augmentation.
        flip: Whether the augmentation flips, see `datasets.pipeline`.
        verbose: 0 for silence, 1 for a line per training, 2 per epoch.
        stop_hopeless: Whether trainings that have diverged are stopped, see
            `StopHopeless`; those on a plateau go on.
        fill_mode: What the augmentation shifts in, see `datasets.pipeline`.
        dtype_policy: Keras's, for all networks; `None` for the global one.

    Raises:
        ValueError: If `folder` holds trainings of other images, radii or
            networks.

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
        train: Split,
        validation: Split,
        test: Split,
        space: OptimizerSpace,
        folder: str | os.PathLike[str],
        epochs: int = 10,
        seeds: int = 2,
        epsilon: float | None = None,
        padding: int = 4,
        flip: bool | str = True,
        verbose: int = 1,
        stop_hopeless: bool = False,
        fill_mode: str = "constant",
        dtype_policy: str | None = None,
    ) -> None:
        super().__init__(name="optimizer_search")
        space.check_networks()
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
        self.fill_mode = fill_mode
        self.dtype_policy = dtype_policy or keras.config.dtype_policy().name
        self.verbose = verbose
        self.stop_hopeless = stop_hopeless
        self.num_classes = int(max(train[1].max(), validation[1].max())) + 1
        self._check_folder()

    def _check_folder(self) -> None:
        """Raise where trainings of other images or networks are kept.

        They are found again by their settings, which names stand for. More
        names may be tried later.
        """
        described = describe_space(self.space)
        images = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for part in split:
                images.update(f"{part.dtype}{part.shape}".encode())
                images.update(np.ascontiguousarray(part).data)
        now = {
            "images": images.hexdigest(),
            "epsilon": self.epsilon,
            "padding": self.padding,
            "flip": self.flip,
            "fill_mode": self.fill_mode,
            "dtype_policy": self.dtype_policy,
            "stop_hopeless": self.stop_hopeless,
            **{
                f"{kind} {name}": value
                for kind in ("networks", "makers")
                for name, value in described.get(kind, {}).items()
            },
        }
        # As it would be read from the file.
        now = json.loads(json.dumps(now))
        path = self.folder / "trainings.json"
        known = read_json(path) if path.exists() else {}
        differs = [key for key in now if known.get(key, now[key]) != now[key]]
        if differs:
            raise ValueError(
                "Argument `folder` must be new, or hold trainings of the same "
                "search: what is kept there would be taken for what is asked. "
                f"Received: {str(self.folder)!r}, which differs in {differs}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {**known, **now})

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build the compiled network of a setting, with the first seed."""
        setting = self.space.choose(hp)
        return self._network(setting, self.epochs, seed=0)

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        *args: Any,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **kwargs: Any,
    ) -> dict[str, float]:
        """Train a setting once for every seed.

        Args:
            hp: Hyperparameters of a tuner, which decides.
            model: Not used: every seed has a new network.
            *args: Not used.
            epochs: Int, from a tuner that decides; else `self.epochs`.
            callbacks: Of the tuner and of the user, for the first seed.
            **kwargs: Not used.

        Returns:
            Dictionary of means over seeds, after the last epoch: `val_accuracy`
            and, where attacked, `val_robust_accuracy`.

        Raises:
            keras_tuner.errors.FatalError: For any error, a `FatalValueError`
                for a `ValueError`: KerasTuner would only print another one,
                and continue.
        """
        del model, args, kwargs
        try:
            setting = self.space.choose(hp)
            epochs = epochs or self.epochs
            runs = [
                self.run(setting, epochs, seed, () if seed else callbacks)
                for seed in range(self.seeds)
            ]
            means = {
                "val_accuracy": np.mean([run["val_accuracy"] for run in runs])
            }
            if "val_robust_accuracy" in runs[0]:
                means["val_robust_accuracy"] = np.mean(
                    [run["val_robust_accuracy"] for run in runs]
                )
            return {name: float(mean) for name, mean in means.items()}
        except Exception as error:
            kind = keras_tuner.errors.FatalError
            if isinstance(error, ValueError):
                kind = keras_tuner.errors.FatalValueError
            raise kind(
                f"A trial failed: {type(error).__name__}: {error}"
            ) from error

    def run(
        self,
        setting: Setting,
        epochs: int,
        seed: int,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> Trial:
        """Train a setting with one seed, or load what was found before.

        Args:
            setting: What `OptimizerSpace.choose` returns.
            epochs: Int.
            seed: Int >= 0.
            callbacks: More callbacks of `fit`.
        """
        key = json_hash({**setting, "epochs": epochs, "seed": seed})
        path = self._runs / f"{key}.json"
        if path.exists():
            return cast(Trial, read_json(path))
        found: Trial = {
            **setting,
            "epochs": epochs,
            "seed": seed,
            **self._trained(setting, epochs, seed, callbacks),
        }
        self._runs.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
        if self.verbose:
            print(_line(found), flush=True)
        return found

    def runs(self) -> list[Trial]:
        """All trainings that are kept, in the order in which they were made."""
        paths = sorted(
            self._runs.glob("*.json"),
            key=lambda path: (path.stat().st_mtime_ns, path.name),
        )
        return [read_json(path) for path in paths]

    @property
    def _runs(self) -> Path:
        """The folder of the trainings."""
        return self.folder / "runs"

    def _network(self, setting: Setting, epochs: int, seed: int) -> keras.Model:
        # KerasTuner clears the session, which undoes earlier seeds.
        keras.utils.set_random_seed(seed)
        network = self.space.networks[setting["network"]]
        l2 = {"weight_decay": self.space.l2(setting)}
        if callable(network):
            options = l2 if takes(network, "weight_decay") else {}
            with with_dtype_policy(self.dtype_policy):
                model = network(**options)
        else:
            function, options = network
            model = build_named(
                (function, {**options, **l2}),
                self.dtype_policy,
                image_shape=self.train[0].shape[1:],
            )
            models.adapt_whitening(model, self.train[0][:WHITENING_IMAGES])
        loss, metric = loss_and_metric(model, Training(epochs))
        per_epoch = -(-len(self.train[0]) // setting["batch_size"])
        model.compile(
            self.space.optimizer(setting, epochs * per_epoch),
            loss,
            metrics=[metric],
        )
        return model

    def _trained(
        self,
        setting: Setting,
        epochs: int,
        seed: int,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> Trained:
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
            fill_mode=self.fill_mode,
        )
        x, y = self.validation
        watching = [StopHopeless()] if self.stop_hopeless else []
        model.fit(
            batches,
            validation_data=datasets.pipeline(x, y, batch_size=256),
            epochs=epochs,
            shuffle=False,
            verbose=2 if self.verbose > 1 else 0,
            callbacks=[*callbacks, monitor, *watching],
        )
        x, y = self.test
        found: Trained = {
            "val_accuracy": monitor.curve["val_accuracy"][-1],
            "train_accuracy": monitor.curve["accuracy"][-1],
            "test_accuracy": float((predict_labels(model, x) == y).mean()),
            "outcome": monitor.outcome,
            "escape_epoch": monitor.escape_epoch,
            "memorization_gap": monitor.memorization_gap,
            "curve": monitor.curve,
        }
        if watching:
            found["stopped_epoch"] = watching[0].stopped_epoch
        if self.epsilon is not None:
            attack = PGDAttack(epsilon=self.epsilon, steps=10)
            report = evaluate_robustness(
                model, self.validation, {"pgd": attack}, verbose=0, probe=False
            )
            found["val_robust_accuracy"] = report.accuracy["pgd"]
        return found


def _line(found: Trial) -> str:
    """Describe a training in a line, for a log."""
    rate = found.get("learning_rate")
    return (
        f"{found['optimizer']} {'' if rate is None else f'{rate:.3g} '}"
        f"{found['schedule']} batch {found['batch_size']} "
        f"{'augmented ' if found['augment'] else ''}{found['network']} "
        f"decay {found['weight_decay']:g} seed {found['seed']}: "
        f"{found['outcome']}, train {found['train_accuracy']:.3f}, "
        f"clean {found['val_accuracy']:.3f}"
    )
