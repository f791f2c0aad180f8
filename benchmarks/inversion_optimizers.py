"""How few gradients bring an image to a given representation.

    python benchmarks/networks.py
    python benchmarks/inversion_optimizers.py
    python benchmarks/inversion_optimizers.py --dataset fashion_mnist
    python benchmarks/inversion_optimizers.py --training
    python benchmarks/inversion_optimizers.py --model robust.keras --images 8
    python benchmarks/inversion_optimizers.py --poolings
    python benchmarks/figures.py

The paper's inversion takes 1000 normalized steps of 0.1 (appendix C.4). Here
is the distance of the representations, as a share of what it was at the start
(mean over images), after so many gradients, for other rules on an adversarially
trained network of real images. `decay` is a cosine to zero over all steps.
`polyak` is what `Robustifier(optimizer="polyak")` does, by the package itself;
the others are written here, and so is the paper's, as a check.

`--training`: networks trained on D_R of Fashion-MNIST (2,500 images), made by
the paper's rule and by `polyak` at about the same distance; three seeds. Equal
distance does not prove equal robustness: this measures it. `--model`: the
representation of a saved classifier of images of the data set in [0, 1].
`--poolings`: airbench networks that end in a maximum or in an average, trained
by N-FGSM for three epochs of 8,000 CIFAR-10 images, inverted by `polyak`.

Results: see `results/inversion-*.json` and docs/performance.md.
"""

import argparse
import time

import keras
import measure
import numpy as np
from keras import ops
from networks import SETTINGS
from networks import network

import keras_robust as kr
from keras_robust import backend
from keras_robust.classifier import FrozenModel
from keras_robust.study.training import Training
from keras_robust.study.training import make_optimizer

TRAINING_IMAGES = 2500
MARKS = (10, 25, 50, 100, 200, 400, 1000)


def length(a):
    """L2 norms, `(N, 1, 1, 1)`."""
    return np.sqrt(np.sum(a * a, axis=(1, 2, 3), keepdims=True)) + 1e-30


def wave(k, steps):
    """The factor of a cosine decay."""
    return (1 + np.cos(np.pi * k / steps)) / 2


def descent(size, decay=False):
    """Normalized gradient steps of one length."""

    def step(z, value, g, k, steps, memory):
        factor = wave(k, steps) if decay else 1.0
        return z - factor * size * g / length(g)

    return step


def momentum(size, decay=False):
    """The same, averaged with weight 0.9 for the past."""

    def step(z, value, g, k, steps, memory):
        factor = wave(k, steps) if decay else 1.0
        memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g / length(g)
        return z - factor * size * memory["m"]

    return step


def adam(rate, decay=False):
    """Adam (beta 0.9 and 0.99) in pixels."""

    def step(z, value, g, k, steps, memory):
        factor = wave(k, steps) if decay else 1.0
        memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
        memory["v"] = 0.99 * memory.get("v", 0) + 0.01 * g * g
        mean = memory["m"] / (1 - 0.9 ** (k + 1))
        square = memory["v"] / (1 - 0.99 ** (k + 1))
        return z - factor * rate * mean / (np.sqrt(square) + 1e-12)

    return step


def barzilai_borwein(most):
    """The first Barzilai-Borwein step, at most so long."""

    def step(z, value, g, k, steps, memory):
        move = 0.1 * g / length(g)
        if "z" in memory:
            s, y = z - memory["z"], g - memory["g"]
            across = np.sum(s * y, axis=(1, 2, 3), keepdims=True)
            size = length(s) ** 2 / np.maximum(across, 1e-30)
            move = np.where(across > 0, size * g, move)
        move = move * np.minimum(1, most / length(move))
        memory.update(z=z, g=g)
        return z - move

    return step


RULES = {
    "descent 0.1 (paper)": descent(0.1),
    "descent 0.5": descent(0.5),
    "descent 0.3, decay": descent(0.3, True),
    "descent 1.0, decay": descent(1.0, True),
    "momentum 0.3, decay": momentum(0.3, True),
    "momentum 1.0, decay": momentum(1.0, True),
    "Adam 0.01": adam(0.01),
    "Adam 0.03, decay": adam(0.03, True),
    "Adam 0.1, decay": adam(0.1, True),
    "Barzilai-Borwein": barzilai_borwein(1.0),
}


def distances(model, x, start, steps):
    """Share of the distance left at each mark, by rule."""
    frozen = FrozenModel(kr.models.representation_view(model))

    def look(inputs):
        def square(z):
            difference = frozen(z) - inputs["target"]
            return ops.sum(ops.square(difference), axis=-1), 0

        (value, _), g = backend.value_and_gradient(square, inputs["z"])
        return {"value": value, "g": g}

    look = backend.compile(look, model.variables)
    target = frozen(ops.convert_to_tensor(x))
    marks = [mark for mark in MARKS if mark <= steps]
    found = {}
    for name, rule in RULES.items():
        z, memory, left = start, {}, {}
        for k in range(steps + 1):
            seen = look({"z": ops.convert_to_tensor(z), "target": target})
            value = ops.convert_to_numpy(seen["value"])
            if not k:
                first = np.sqrt(value)
            if k in marks:
                left[k] = float(np.mean(np.sqrt(value)) / np.mean(first))
            g = ops.convert_to_numpy(seen["g"])
            z = np.float32(np.clip(rule(z, value, g, k, steps, memory), 0, 1))
        found[name] = left
        show(name, left)
    for optimizer in ("gradient_descent", "polyak"):
        found[optimizer] = {}
        for mark in marks:
            made_by = kr.Robustifier(model, steps=mark, optimizer=optimizer)
            _, details = made_by(x, start, verbose=0, return_details=True)
            found[optimizer][mark] = share_left(details)
        show(optimizer, found[optimizer])
    return found


def share_left(details):
    """The distance after an inversion as a share of that before."""
    before, after = (
        np.mean(details[f"distance_{when}"]) for when in ("before", "after")
    )
    return float(after / before)


def show(name, left):
    """Prints one line."""
    cells = " ".join(f"{k}: {100 * v:5.1f}" for k, v in left.items())
    print(f"{name:22} {cells}", flush=True)


def train_on(x, y, seed):
    """A network trained plainly on the images."""
    make, _, _, epochs, _ = SETTINGS["fashion_mnist"]
    keras.utils.set_random_seed(seed)
    model = make()
    recipe = Training(2 * epochs, 0.1)
    batches = kr.datasets.pipeline(
        x, y, recipe.batch_size, shuffle=True, drop_remainder=True, seed=seed
    )
    model.compile(
        make_optimizer(recipe, len(batches)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(batches, epochs=recipe.epochs, verbose=0)
    return model


def training(folder, settings, seeds):
    """Robustness of networks trained on each D_R, and on the images."""
    robust = network(folder, "fashion_mnist", True)
    (x, y), (x_test, y_test) = kr.datasets.load("fashion_mnist")
    x, y = x[:TRAINING_IMAGES], y[:TRAINING_IMAGES]
    test = x_test[:2000], y_test[:2000]
    attacks = {
        f"pgd-l2-{radius}": kr.PGDAttack(
            "l2", radius, steps=20, keep_best=True, batch_size=500
        )
        for radius in (0.25, 0.5, 1.0)
    }
    results = {}
    for optimizer, steps in (("none", 0), *settings):
        rows, seconds, left = [], 0.0, None
        for seed in seeds:
            images = x
            if steps:
                made_by = kr.Robustifier(
                    robust,
                    steps=steps,
                    optimizer=optimizer,
                    seed=seed,
                    batch_size=500,
                )
                start = time.perf_counter()
                images, details = made_by(x, return_details=True)
                seconds += time.perf_counter() - start
                left = share_left(details)
            model = train_on(images, y, seed)
            report = kr.evaluate_robustness(
                model, test, attacks, probe=False, verbose=0
            )
            rows.append(report.accuracy)
        mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
        spread = {
            k: float(np.std([r[k] for r in rows], ddof=1)) for k in rows[0]
        }
        name = f"{optimizer} {steps}"
        results[name] = {
            "distance_left": left,
            "seconds": seconds / len(rows),
            "mean": mean,
            "spread": spread,
        }
        cells = " ".join(
            f"{k} {100 * mean[k]:.1f}±{100 * spread[k]:.1f}" for k in mean
        )
        print(f"{name:22} left {left}: {cells}", flush=True)
    return results


def poolings(seed=0):
    """Distance left by the last pooling of an airbench network."""
    (x, y), _ = kr.datasets.load("cifar10")
    x, y = x[:8_000], y[:8_000]
    start = x[np.random.default_rng(seed).integers(0, len(x), 64)]
    recipe = Training(3, 0.75, "nesterov", momentum=0.85, schedule="triangle")
    found = {}
    for pooling in ("max", "average"):
        keras.utils.set_random_seed(seed)
        model = kr.models.airbench((32, 64, 128), pooling=pooling)
        kr.models.adapt_whitening(model, x[:5_000])
        batches = kr.datasets.pipeline(
            x, y, 512, augment=True, padding=2, shuffle=True, seed=seed
        )
        robust = kr.AdversarialModel(model, kr.NFGSMAttack("l2", 0.5))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        robust.compile(make_optimizer(recipe, len(batches)), loss)
        robust.fit(batches, epochs=recipe.epochs, verbose=2)
        found[pooling] = {}
        for steps in (50, 100, 200):
            made_by = kr.Robustifier(model, steps=steps, optimizer="polyak")
            _, details = made_by(x[:64], start, return_details=True)
            found[pooling][steps] = share_left(details)
        show(pooling, found[pooling])
    return found


def main():
    """What was asked for, written to `results/`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=SETTINGS, default="cifar10")
    parser.add_argument("--networks", default="runs/networks")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--poolings", action="store_true")
    options = parser.parse_args()
    if options.poolings:
        return measure.save("inversion-poolings", {"polyak": poolings()})
    if options.training:
        settings = (("gradient_descent", 200), ("polyak", 50))
        results = training(options.networks, settings, seeds=range(3))
        return measure.save("inversion-training", {"trained_on": results})
    x = kr.datasets.load(options.dataset).train[0]
    random = np.random.default_rng(0)
    start = x[random.integers(0, len(x), options.images)]
    results = {"images": options.images}
    if options.model:
        model = keras.saving.load_model(options.model)
        results["model"] = distances(
            model, x[: options.images], start, options.steps
        )
        return measure.save(f"inversion-{options.dataset}-model", results)
    for kind in ("adversarial", "standard"):
        print(options.dataset, kind, flush=True)
        model = network(options.networks, options.dataset, kind != "standard")
        results[kind] = distances(
            model, x[: options.images], start, options.steps
        )
    return measure.save(f"inversion-{options.dataset}", results)


if __name__ == "__main__":
    main()
