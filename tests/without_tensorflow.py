"""A part of every package, where TensorFlow and TFDS cannot be imported."""

import dataclasses
import json
import sys
import warnings
from pathlib import Path

BLOCKED = ("tensorflow", "tensorflow_datasets")


class Without:
    """A finder of modules to which some packages are not installed."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *args):
        """Find what is not blocked."""
        if name.partition(".")[0] in BLOCKED:
            return None
        return self.finder.find_spec(name, *args)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = map(Without, sys.meta_path)

import keras  # noqa: E402
import numpy as np  # noqa: E402

import keras_robust as kr  # noqa: E402
from keras_robust import cli  # noqa: E402

RADIUS = 0.1
FOLDER = Path(sys.argv[1])


def compiled(model):
    """A model with the loss of all of them."""
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def attacks(model, x, y):
    """Two attacks, inside their ball."""
    for attack in (
        kr.PGDAttack("linf", RADIUS, steps=2, seed=0),
        kr.SquareAttack("linf", RADIUS, queries=3, seed=0),
    ):
        changes = np.abs(attack(model, x, y, verbose=0) - x)
        assert 0 < changes.max() <= RADIUS + 1e-6


def training(model, x, y):
    """Objectives and augmentation, on arrays and on batches."""
    inputs = keras.Input(model.input_shape[1:])
    augmented = keras.Model(
        inputs, model(kr.layers.PadAndCrop(1, seed=0)(inputs))
    )
    attack = kr.PGDAttack("linf", RADIUS, steps=1, seed=0)
    for network, objective in (
        (model, kr.objectives.TRADES(6.0)),
        (augmented, "adversarial"),
    ):
        robust = kr.AdversarialModel(network, attack, objective=objective)
        compiled(robust).fit(x, y, batch_size=16, verbose=0)
        found = robust.evaluate(x, y, verbose=0, return_dict=True)
        assert np.isfinite(found["robust_loss"])
    batches = kr.datasets.pipeline(
        x, y, 16, shuffle=True, augment=True, padding=1, seed=0
    )
    compiled(model).fit(batches, epochs=2, verbose=0)
    kept = kr.datasets.pipeline(x, y, 5)
    read = kr.evaluate_robustness(
        model, kept, {"pgd": attack}, probe=False, verbose=0
    )
    # The same examples in the same order as in the arrays.
    given = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    np.testing.assert_array_equal(read.correct["pgd"], given.correct["pgd"])


def evaluation(model, x, y):
    """A report with its pages, a curve and distances."""
    report = kr.evaluate_robustness(
        model,
        (x, y),
        {"pgd": kr.PGDAttack("linf", RADIUS, steps=2, seed=0)},
        verbose=0,
    )
    report.to_html(FOLDER / "report.html")
    assert report.accuracy["pgd"] <= report.accuracy["clean"]
    curve = kr.robustness_curve(
        model, (x, y), "linf", [0.05, RADIUS], attack="fgsm", verbose=0
    )
    kr.plot.curves({"model": curve}, path=FOLDER / "curve.png")
    kr.minimum_distance(
        model, (x, y), {"ddn": kr.DDNAttack(steps=2)}, probe=False, verbose=0
    )
    kr.plot.images(x[:2], x[-2:], path=FOLDER / "images.png")


def certificates(model, x, y):
    """Both kinds."""
    smoothed = kr.certify.randomized_smoothing(
        model, (x, y), 0.25, samples=20, selection_samples=5, verbose=0
    )
    bounds = kr.certify.interval_bounds(model, (x, y), 0.001, verbose=0)
    assert len(smoothed.radii) == len(bounds.certified) == len(x)


def transforms(model, x, y):
    """All of them, on arrays."""
    robustify = kr.Robustifier(model, steps=2, seed=0)
    to_random = kr.NonRobustifier(model, epsilon=0.5, steps=2, seed=0)
    assert robustify(x, verbose=0).shape == x.shape
    assert kr.Mixture(robustify, 0.5)(x, verbose=0).shape == x.shape
    for transform in (to_random, kr.Shortcut(10, seed=0)):
        changed, labels = transform(x, y, verbose=0)
        assert changed.shape == x.shape and labels.shape == y.shape


def rest(model, train, test):
    """Corruptions, features, theory."""
    noisy = kr.corruptions.corrupt(test[0], "gaussian_noise", 1, seed=0)
    assert noisy.shape == test[0].shape
    attack = kr.PGDAttack("linf", RADIUS, steps=1, seed=0)
    kr.features.feature_usefulness(model, test, attack, verbose=0)


def commands(model, x, y):
    """`keras-robust evaluate` of arrays in a file."""
    model.save(FOLDER / "model.keras")
    np.savez(FOLDER / "images.npz", x=x, y=y)
    command = (
        f"evaluate {FOLDER}/model.keras --data {FOLDER}/images.npz "
        f"--attack fgsm --scaling unit --verbose 0 --output {FOLDER}/evaluation"
    )
    status = cli.main(command.split())
    assert not status
    assert json.loads((FOLDER / "evaluation/report.json").read_text())
    try:
        kr.datasets.load("no_such_data")
    except ValueError as error:
        assert "Data must be" in str(error)
    else:
        raise AssertionError("no_such_data was found")


def study():
    """A set, its control, the networks, and one trial of a search."""
    recipe = dataclasses.replace(
        kr.study.get_recipe("digits", "smoke"),
        network_options={"filters": (4, 4)},
        training=kr.Training(epochs=1, learning_rate=0.1, augment=True),
        sets=("D_other",),
        train_images=48,
        test_images=20,
        attack_steps=1,
        relabel_steps=1,
        evaluation_steps=1,
        architectures={},
    )
    results = recipe.run(FOLDER / "study", verbose=0)
    assert 0 <= results["summary"]["D_other"]["clean"]["mean"] <= 100
    found = kr.study.sweep(
        "digits",
        "D",
        FOLDER / "sweep",
        preset="smoke",
        optimizers=("adam",),
        learning_rate_factor=1000,
        seeds=1,
        epochs=1,
        verbose=0,
    )
    assert len(found["runs"]) == 1


def main():
    """All of it on a few digits."""
    warnings.filterwarnings("ignore", category=UserWarning)
    keras.utils.set_random_seed(0)
    (x, y), (x_test, y_test) = kr.datasets.load("digits")
    x, y, x_test, y_test = x[:48], y[:48], x_test[:12], y_test[:12]
    model = kr.models.small_cnn((8, 8, 1), filters=(4, 4))
    attacks(model, x_test, y_test)
    training(model, x, y)
    evaluation(model, x_test, y_test)
    certificates(model, x_test, y_test)
    transforms(model, x_test, y_test)
    rest(model, (x, y), (x_test, y_test))
    commands(model, x_test, y_test)
    study()
    assert not set(BLOCKED) & set(sys.modules)
    print("done")


if __name__ == "__main__":
    main()
