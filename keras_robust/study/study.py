"""The study: settings of what is trained, made and attacked, and its run."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import keras

from keras_robust.study import data as study_data
from keras_robust.study.replication import settings
from keras_robust.study.replication.defaults import with_defaults
from keras_robust.study.replication.networks import NetworkSpec
from keras_robust.study.replication.networks import build_named
from keras_robust.study.replication.networks import build_own
from keras_robust.study.replication.networks import takes_pixels
from keras_robust.study.replication.networks import with_image_options
from keras_robust.study.replication.replication import Replication
from keras_robust.study.replication.results import MeasuredRadius
from keras_robust.study.replication.running import check_networks
from keras_robust.study.replication.running import run_study
from keras_robust.study.replication.stand_ins import StandIn
from keras_robust.study.replication.stand_ins import stand_in
from keras_robust.study.replication.store import Arrays
from keras_robust.study.replication.training_sets import SETS
from keras_robust.study.replication.training_sets import SOURCE
from keras_robust.study.replication.training_sets import Kind
from keras_robust.study.replication.training_sets import OwnSet
from keras_robust.study.replication.training_sets import TrainingSet
from keras_robust.study.replication.training_sets import sets_of
from keras_robust.study.replication.training_sets import sets_with_error
from keras_robust.study.results import StudyResults
from keras_robust.study.training import Training
from keras_robust.transforms import Transform
from keras_robust.utils.checks import check_positive_integer


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """Ilyas et al. 2019 on one data set with one kind of network.

    Two networks are trained, a standard and an adversarial one, data sets are
    made with them, a new network is trained on each, and all are attacked. A
    recipe of `get_recipe` is such an object with tuned numbers in it.

    Radii and steps are L2 in units of images in [0, 1], whatever the range of
    the data's pixels is.

    Attributes:
        data: `((x, y), (x_test, y_test))`: images `(N, H, W, C)` with labels,
            or two data sets of such batches, such as `tf.data`; an
            `ImageDataset`; or a name: `"planted"`, `"digits"`,
            `"fashion_mnist"`, `"cifar10"`, one of TFDS, or what else
            `datasets.load` takes.
        network: A function without arguments that returns a new, built Keras
            classifier of images in the range of the data's pixels: as stored
            for arrays, [0, 255] for TFDS and files. Or the name of a function
            of `models`, whose networks take [0, 1].
        training: Training of all networks.
        epsilon: Radius of adversarial training; `None` for the largest of
            `radii`, or where these are `None` as well, that at which a standard
            network keeps half of its clean accuracy on unseen training images.
        radii: L2 radii of the evaluation; `None` for half of `epsilon` and
            `epsilon`, or where that is measured, the radius and twice it.
            The L-infinity radii are those of equal volume.
        sets: Which sets are made: names, and for others an `OwnSet` or a
            `Transform`.
        controls: Whether the controls of each set are made as well: the same
            labels without features (`..._shortcut`), and the set made with
            the adversarial network (`..._robust`).
        seeds: Int >= 1, how often everything is repeated.
        value_range: `(low, high)` of the pixels that `data` holds and
            `network` takes; `None` for [0, 1], [-1, 1] or [0, 255], whichever
            the training images are in.
        image_size: `(H, W)` to which images of TFDS and of files are resized;
            `None` for their own.
        layer: Name of the layer whose output D_R and D_NR invert; `None` for
            the input of the last one.
        network_options: Arguments of a network by name.
        networks: Other networks by model: functions, or `[name, options]`;
            controls have those of what they control. One for `"source"` is
            trained on the data set as well, and the relabelled sets are made
            from it instead of from the standard model.
        overrides: Other values of `training` by model, see `Training.changed`;
            controls have those of what they control.
        train_images: How many, `None` for all; of own data evenly spaced ones.
        test_images: How many, `None` for all; own data are drawn, once.
        validation_images: How many training images are held out and take the
            place of the test images, as long as something is chosen; 0 once
            it is. The last ones of a data set by name, others evenly spaced.
        padding: Pixels of shift in the augmentation.
        flip: Whether images may be mirrored: `True`, `False` or
            `"alternating"`, see `datasets.pipeline`.
        fill_mode: What is shifted in, see `datasets.pipeline`.
        attack_steps: Steps of adversarial training.
        attack_step_size: Length of each, `None` for epsilon / 5.
        inversion_steps: Gradient steps for D_R and D_NR.
        inversion_step_size: Length of each; `None` for 0.1, more for images
            that are larger than those of CIFAR-10.
        inversion_optimizer: As `optimizer` of `Robustifier`.
        relabel_epsilon: Radius of D_rand, D_det and D_other; `None` for
            `epsilon`, or twice it where that is measured.
        relabel_steps: Gradient steps for them.
        relabel_step_size: Length of each; `None` for 2.5 relabel_epsilon /
            relabel_steps.
        linf_radii: More L-infinity radii: 8/255, the usual one.
        evaluation_steps: Steps of its attacks, each of 2.5 radius / steps.
        attacked_images: How many of the test images are attacked, `None` for
            all.
        autoattack_images: How many test images AutoAttack tries on the
            adversarial and the D_R model, at the largest of `radii` and at the
            smallest; 0 for none.
        leakage_epsilon: Radius at which a linear model is trained for the
            leakage of robust linear features; `None` for epsilon / 2.
        architectures: Dictionary of functions or `[name, options]` by name,
            networks between which transfer is measured; none if empty.
        errors: Names in `AM207_ERRORS`: errors of the AM207 report whose
            effects are measured.
        dtype_policy: Keras's, for all networks.
        undecidable: Reasons by name of a claim (see `claims.CLAIMS`) that
            these images or networks cannot decide. It is not judged, however
            its numbers come out.
        too_small: Whether the run only shows that the pipeline works; then no
            claim is judged.
        stand_ins: What takes the place of stages, see `use`.

    Example:

    ```python
    study = kr.Study(((x, y), (x_test, y_test)), make_model, epsilon=0.5)
    results = study.run("runs/mine")  # prints accuracies and claims
    results.to_dataframe()
    study.model("D_R")
    ```
    """

    data: Any
    network: Any
    training: Training = field(
        default_factory=lambda: Training(epochs=20, optimizer="adam")
    )
    epsilon: float | None = None
    radii: tuple[float, ...] | None = None
    sets: Sequence[str | OwnSet | Transform] = SETS
    controls: bool = True
    seeds: int = 1
    value_range: tuple[float, float] | None = None
    image_size: tuple[int, int] | None = None
    layer: str | None = None
    network_options: dict[str, Any] = field(default_factory=dict)
    networks: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    train_images: int | None = None
    test_images: int | None = None
    validation_images: int = 0
    padding: int = 4
    flip: bool | str = True
    fill_mode: str = "constant"
    attack_steps: int = 7
    attack_step_size: float | None = None
    inversion_steps: int = 100
    inversion_step_size: float | None = None
    inversion_optimizer: str = "polyak"
    relabel_epsilon: float | None = None
    relabel_steps: int = 20
    relabel_step_size: float | None = None
    linf_radii: tuple[float, ...] = (8 / 255,)
    evaluation_steps: int = 20
    attacked_images: int | None = None
    autoattack_images: int = 0
    leakage_epsilon: float | None = None
    architectures: dict[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    dtype_policy: str = "float32"
    undecidable: dict[str, str] = field(default_factory=dict)
    too_small: bool = False
    stand_ins: dict[str, StandIn] = field(default_factory=dict)
    # What was read, measured and hashed, and the folder of the last run.
    _cache: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Check what would fail, or go unnoticed, after hours of training."""
        for name in ("radii", "linf_radii", "errors"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        sets = [
            OwnSet.of(made) if isinstance(made, Transform) else made
            for made in self.sets
        ]
        object.__setattr__(self, "sets", tuple(sets))
        # `use` of a copy must not change this one.
        object.__setattr__(self, "stand_ins", dict(self.stand_ins))
        study_data.check_form(self.data)
        settings.check(self)

    def __repr__(self) -> str:
        """All settings that differ from their defaults."""
        return settings.repr_of(self)

    @property
    def dataset(self) -> str:
        """Name of the data set; that of arrays is `"own data"`."""
        return study_data.name_of(self.data)

    @property
    def preset(self) -> str:
        """Name of the recipe with the same settings; `"own"` if none has."""
        from keras_robust.study.replication.recipes import preset_of

        return preset_of(self)

    def run(
        self,
        folder: str | os.PathLike[str],
        seed: int = 0,
        verbose: int = 1,
    ) -> StudyResults:
        """Train, make, attack and judge everything; write the results.

        Writes to `folder`: `report.html`, `results.json`, `table.md`, figures
        (`bars`, `curves`, where measured `transfer`, as PNG and SVG, and
        `images.png`), and `tensorboard/`. Finished stages are kept in
        `stages/`, trainings every ten seconds: after a stop the same call
        resumes there. The results are written after every seed. The report
        includes an optimizer search in `optimizer/` (see `sweep`).

        Args:
            folder: Made if missing.
            seed: Int >= 0, the first seed.
            verbose: 0 for silence.
        """
        check_positive_integer(seed, "seed", least=0)
        check_networks(self)
        self._cache.update(folder=Path(folder), seed=seed)
        results = run_study(
            self.resolve(folder, verbose),
            Path(folder),
            seeds=range(seed, seed + self.seeds),
            verbose=verbose,
        )
        return StudyResults(results)

    def resolve(
        self, folder: str | os.PathLike[str], verbose: int = 1
    ) -> "Study":
        """The same study with a number for every setting that is `None`.

        Args:
            folder: Where the network is kept that a radius is measured with.
            verbose: 0 for silence.
        """
        if "resolved" not in self._cache:
            known, measured = with_defaults(self, Path(folder), verbose)
            # What either reads or measures serves both.
            object.__setattr__(known, "_cache", self._cache)
            self._cache.update(measured=measured, resolved=known)
        resolved: Study = self._cache["resolved"]
        return resolved

    def replication(
        self,
        folder: str | os.PathLike[str],
        seed: int = 0,
        verbose: int = 1,
    ) -> Replication:
        """The stages of one seed.

        Args:
            folder: That of `run`.
            seed: Int >= 0.
            verbose: 0 for silence.
        """
        return Replication(
            self.resolve(folder, verbose),
            Path(folder) / "stages",
            seed=seed,
            verbose=verbose,
            logs=Path(folder) / "tensorboard",
        )

    def model(
        self,
        name: str,
        seed: int | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> keras.Model:
        """A trained network; it is trained now if it was not yet.

        Args:
            name: One of `models`, such as `"D_R"`.
            seed: Int >= 0; `None` for the first one of the last run.
            folder: That of an earlier run; `None` for that of the last one.

        Returns:
            Keras model of images in the range of the data's pixels.
        """
        settings.check_model(self, name)
        stages = self._stages(folder, seed)
        data = self.read()
        return takes_pixels(stages.model(name), data.shape, data.value_range)

    def generated(
        self,
        name: str,
        seed: int | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> Arrays:
        """A generated set; it is made now if it was not yet.

        Args:
            name: Name of a model that is trained on one, such as `"D_rand"`.
            seed: Int >= 0; `None` for the first one of the last run.
            folder: That of an earlier run; `None` for that of the last one.

        Returns:
            Dictionary of arrays: `x`, images in the range of the data's
            pixels, labels `y`, and details of each example.
        """
        settings.check_model(self, name, is_generated=True)
        made = self._stages(folder, seed).generated(name)
        return {**made, "x": self.read().to_pixels(made["x"])}

    def use(self, name: str, value: Any) -> None:
        """Let a model or a set that exists take the place of a stage.

        What depends on it, such as a measured radius, is made anew; what does
        not is found again.

        Args:
            name: One of `models`.
            value: A trained Keras classifier in place of the model; or in
                place of the set that it is trained on, `(x, y)`, or the folder
                of one that `datasets.generate` wrote. Images are in the range
                of the data's pixels.

        Raises:
            ValueError: If the name is unknown, or the value does not fit.
        """
        self.stand_ins[name] = stand_in(self, name, value)
        # Open radii are measured on the standard model.
        self._cache.pop("resolved", None)

    def read(self) -> study_data.StudyData:
        """The images, read at the first call."""
        if "data" not in self._cache:
            self._cache["data"] = study_data.read(
                self.data, self.value_range, self.image_size
            )
        found: study_data.StudyData = self._cache["data"]
        return found

    @property
    def measured_radius(self) -> MeasuredRadius | None:
        """What open radii were chosen by, once the study is resolved."""
        return self._cache.get("measured")

    def build(self, network: NetworkSpec) -> keras.Model:
        """A new network of images in [0, 1].

        Args:
            network: What `network_of` returns.
        """
        if isinstance(network, tuple):
            return build_named(
                network,
                self.dtype_policy,
                image_shape=study_data.SHAPES.get(self.dataset),
            )
        data = self.read()
        return build_own(
            network,
            self.dtype_policy,
            image_shape=data.shape,
            value_range=data.value_range,
        )

    def _stages(
        self, folder: str | os.PathLike[str] | None, seed: int | None
    ) -> Replication:
        folder = folder or self._cache.get("folder")
        if folder is None:
            raise ValueError(
                "Argument `folder` must be that of an earlier run, as long as "
                "`run` was not called. Received: folder=None"
            )
        seed = self._cache.get("seed", 0) if seed is None else seed
        return self.replication(folder, seed=seed)

    def training_of(self, model: str) -> Training:
        """The training of a model.

        Args:
            model: One of `models`.
        """
        found = self.training
        for name in (self.training_set(model).base, model):
            found = found.changed(self.overrides.get(name, {}))
        return found

    def network_of(self, model: str) -> NetworkSpec:
        """The function that makes a model's network.

        Args:
            model: One of `models`.

        Returns:
            The user's function, or the name of one of `models` and its
            arguments.
        """
        base = self.training_set(model).base
        own = self.networks
        return self.network_spec(own.get(model, own.get(base)))

    def network_spec(self, network: Any = None) -> NetworkSpec:
        """A network with the arguments that fit the images.

        Args:
            network: Function, or `[name, options]`; `None` for `network`.
        """
        if network is None:
            network = self.network
            if isinstance(network, str):
                network = (network, self.network_options)
        if not isinstance(network, (tuple, list)):
            made: NetworkSpec = network
            return made
        name, options = network
        if self.dataset not in study_data.NAMED:
            data = self.read()
            options = with_image_options(
                name, options, data.shape, data.num_classes
            )
        return name, options

    def source_of(self, model: str) -> str | None:
        """The model whose features a generated set takes.

        Args:
            model: One of `models` that is trained on a generated set.

        Returns:
            The name of that model; `None` for a control, which takes none.
        """
        made = self.training_set(model)
        if isinstance(made, OwnSet):
            return made.source
        if made.control:
            return None
        if made.robust_source:
            return "adversarial"
        if made.kind is Kind.RELABELLED:
            return "source" if "source" in self.networks else "standard"
        return "standard"

    def training_set(self, name: str) -> TrainingSet:
        """What a model is trained on.

        Args:
            name: Such as `"D_rand_shortcut"`.

        Raises:
            ValueError: If there is no such set.
        """
        return settings.training_set_of(self, name)

    def description(self) -> dict[str, Any]:
        """All that the numbers depend on, as plain values.

        How claims are judged is not part of it: stages are found again where
        only that has changed.
        """
        return settings.describe(self)

    @property
    def augmentation(self) -> dict[str, Any]:
        """Arguments of `datasets.pipeline` that change images."""
        return {
            "padding": self.padding,
            "flip": self.flip,
            "fill_mode": self.fill_mode,
        }

    @property
    def models(self) -> Mapping[str, str]:
        """Names of all models, with what they are trained on."""
        found = {
            made.name: made.description
            for made in sets_of(self.sets, self.controls)
        }
        if SOURCE.name in self.networks:
            found[SOURCE.name] = SOURCE.description
        for error in self.errors:
            for made in sets_with_error(error):
                found[made.name] = made.description
        return found
