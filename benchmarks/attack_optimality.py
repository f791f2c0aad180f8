"""How near the adversarial examples of minimum-norm attacks are.

    KERAS_BACKEND=torch python benchmarks/attack_optimality.py
    KERAS_BACKEND=torch python benchmarks/attack_optimality.py \\
        --dataset cifar10

Every attack gets the same Keras model and the same images, which the model
classifies correctly, and at most 2,000 forward and backward passes for each,
counted by a layer in front of the model. The distance is that of the image
which it returns, if the model misclassifies it; the optimality is that of
AttackBench (arXiv:2404.19460) against the nearest example that any of the
attacks found, with its standard error over images (bootstrap). The attacks,
their settings and what to install for them: see `minimum_norm_attacks.py`.
Without `--models` a small network is trained, for CIFAR-10 two, one of them
adversarially, and kept in `--networks`, with the distances of each attack that
has finished, in a file of its own: the same command goes on after them, and
several processes may share the attacks by `--norms` and `--only`. `--again`
runs attacks once more; `--compare` runs none and compares those that have
finished.

Results: see `results/attack-optimality-*.json` and docs/minimum_norm.md, whose
tables and figure `optimality_table.py` makes.
"""

import argparse
import json
import pathlib
import time
from typing import NamedTuple

import keras
import measure
import numpy as np
import torch
from minimum_norm_attacks import all_attacks

import keras_robust as kr
from keras_robust.attacks.norms import distances
from keras_robust.evaluation import attack_optimality
from keras_robust.study.training import Training
from keras_robust.study.training import make_optimizer

NORMS = ("l0", "l1", "l2", "linf")


class Recipe(NamedTuple):
    """How networks are trained: on the first images, at an L-inf radius."""

    kinds: tuple[str, ...]
    filters: tuple[int, ...]
    images: int
    epochs: int
    epsilon: float
    augment: bool


NETWORKS = {
    "cifar10": Recipe(
        ("adversarial", "standard"),
        (16, 32, 64, 64),
        10_000,
        8,
        8 / 255,
        True,
    ),
    "fashion_mnist": Recipe(("standard",), (16, 32, 32), 10_000, 5, 0.1, False),
}


class _Counted(torch.autograd.Function):
    @staticmethod
    def forward(context, x, counts):
        context.counts = counts
        counts["forward"] += len(x)
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        context.counts["backward"] += len(gradient)
        return gradient, None


class PassCounter(keras.layers.Layer):
    """The identity; counts examples on their way forward and backward."""

    def __init__(self):
        super().__init__()
        self.counts = {}
        self.reset()

    def reset(self):
        """Starts from 0 again."""
        self.counts = {"forward": 0, "backward": 0}

    def call(self, x):
        """The same examples."""
        return _Counted.apply(x, self.counts)


def counting(model):
    """The model behind a `PassCounter`, and the counter."""
    counter = PassCounter()
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(counter(inputs))), counter


def measured(run, model, x, y, norm):
    """Distances of an attack, with its passes and seconds."""
    counted, counter = counting(model)
    counter.reset()
    keras.utils.set_random_seed(0)
    start = time.perf_counter()
    moved = run(counted, x, y)
    seconds = time.perf_counter() - start
    passes = {key: n / len(x) for key, n in counter.counts.items()}
    moved = np.clip(np.nan_to_num(np.asarray(moved)), 0, 1).astype("float32")
    # As one batch, as the attacks had it: another size can round otherwise.
    logits = model.predict(moved, batch_size=len(moved), verbose=0)
    fooled = logits.argmax(-1) != y
    distance = distances(moved.astype("float64"), x.astype("float64"), norm)
    return np.where(fooled, distance, np.inf), passes, seconds


def finished(folder, settings):
    """What a folder holds of attacks that ran with these settings, by name."""
    saved = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {
        each["attack"]: each["found"]
        for each in saved
        if each["settings"] == settings
    }


def run_attacks(model, x, y, norm, options, folder):
    """Distances, passes and seconds of each attack, kept in a folder."""
    settings = {"images": len(x), "passes": options.passes}
    found = finished(folder, settings)
    if options.compare:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    attacks = all_attacks(norm, options.passes, model.output_shape[-1])
    for name, run in attacks.items():
        chosen = not options.only or any(w in name for w in options.only)
        again = any(word in name for word in options.again)
        if not chosen or (name in found and not again):
            continue
        distance, counts, seconds = measured(run, model, x, y, norm)
        found[name] = {
            "distance": distance.tolist(),
            **counts,
            "seconds": seconds,
            "device": device(),
        }
        print(f"  {name}: {seconds:.0f} s", flush=True)
        saved = {"attack": name, "settings": settings, "found": found[name]}
        # In one step, so that a process that ends leaves no half of a file.
        path = folder / f"{name.replace(' ', '-')}.json"
        path.with_suffix(".new").write_text(json.dumps(saved))
        path.with_suffix(".new").replace(path)
    return found


def device():
    """The name of the GPU, or `"CPU"`."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "CPU"


def compare(found, passes):
    """A row of numbers for each attack in one norm, the best first."""
    total = {name: r["forward"] + r["backward"] for name, r in found.items()}
    for name in [name for name in total if total[name] > passes]:
        print(f"Left out: {name} takes {total.pop(name):.0f} passes.")
    distances = {name: np.array(found[name]["distance"]) for name in total}
    errors = standard_errors(distances)
    return {
        name: {
            "optimality": value,
            "error": errors[name],
            "median": float(np.median(distances[name])),
            "not_found": float(np.isinf(distances[name]).mean()),
            **{k: v for k, v in found[name].items() if k != "distance"},
        }
        for name, value in attack_optimality(distances, passes=total).items()
    }


def standard_errors(distances):
    """Of the optimality of each attack, over draws of images."""
    rng = np.random.default_rng(0)
    count = len(next(iter(distances.values())))
    draws = rng.integers(0, count, (200, count))
    found = [
        attack_optimality({n: d[rows] for n, d in distances.items()})
        for rows in draws
    ]
    return {
        name: float(np.std([each[name] for each in found]))
        for name in distances
    }


def trained_network(path, dataset, adversarial):
    """A small CNN, trained for some epochs or read from a file."""
    if path.exists():
        return keras.saving.load_model(path)
    print(f"Training {path.stem}.", flush=True)
    keras.utils.set_random_seed(0)
    (x, y), _ = kr.datasets.load(dataset)
    recipe = NETWORKS[dataset]
    x, y = x[: recipe.images], y[: recipe.images]
    model = trained = kr.models.small_cnn(x.shape[1:], filters=recipe.filters)
    if adversarial:
        attack = kr.PGDAttack(
            "linf", recipe.epsilon, 0.75 * recipe.epsilon, steps=2
        )
        trained = kr.AdversarialModel(model, attack)
    batches = kr.datasets.pipeline(
        x,
        y,
        batch_size=128,
        shuffle=True,
        augment=recipe.augment,
        flip=recipe.augment,
        drop_remainder=True,
        seed=0,
    )
    trained.compile(
        make_optimizer(Training(recipe.epochs, 0.1), len(batches)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    trained.fit(batches, epochs=recipe.epochs, verbose=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def networks(options):
    """Models by name."""
    if options.models:
        return {p.stem: keras.saving.load_model(p) for p in options.models}
    dataset, found = options.dataset, {}
    for kind in NETWORKS[dataset].kinds:
        path = options.networks / f"{dataset}-{kind}.keras"
        found[path.stem] = trained_network(
            path, dataset, adversarial=kind == "adversarial"
        )
    return found


def show(title, rows):
    print(f"\n{title}")
    for name, row in rows.items():
        print(
            f"{name:28}{100 * row['optimality']:7.1f} +-"
            f"{100 * row['error']:5.1f}"
            f"{row['median']:10.4g}{100 * row['not_found']:7.1f}"
            f"{row['forward']:8.0f}{row['backward']:8.0f}"
            f"{row['seconds']:8.1f}",
            flush=True,
        )


def main():
    """Compares the attacks and writes `results/attack-optimality-*.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", choices=tuple(NETWORKS), default="fashion_mnist"
    )
    parser.add_argument(
        "--data", help="a name or .npz file with the images, for load()"
    )
    parser.add_argument("--models", nargs="*", type=pathlib.Path)
    parser.add_argument(
        "--networks", type=pathlib.Path, default="runs/networks"
    )
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--norms", nargs="*", choices=NORMS, default=NORMS)
    parser.add_argument("--passes", type=int, default=2000)
    parser.add_argument("--only", nargs="*", help="words of attacks' names")
    parser.add_argument("--again", nargs="*", default=(), help="the same")
    parser.add_argument(
        "--compare", action="store_true", help="only what has finished"
    )
    parser.add_argument("--name", help="end of the name of the results")
    options = parser.parse_args()
    file = f"attack-optimality-{options.name or options.dataset}"
    if keras.backend.backend() != "torch":
        parser.error("the other libraries attack PyTorch: KERAS_BACKEND=torch")
    # 10 bits of precision would move the decision boundary between batches.
    torch.backends.cudnn.allow_tf32 = False
    x, y = kr.datasets.load(options.data or options.dataset).test
    results = {}
    settings = {
        "images": options.images,
        "passes": options.passes,
        "test_images": len(x),
    }
    for name, model in networks(options).items():
        right = model.predict(x, verbose=0).argmax(-1) == y
        settings[f"accuracy of {name}"] = float(right.mean())
        rows = np.flatnonzero(right)[: options.images]
        for norm in options.norms:
            key = f"{name} {norm}"
            print(f"{key}:", flush=True)
            folder = options.networks / "distances" / f"{name}-{norm}"
            found = run_attacks(model, x[rows], y[rows], norm, options, folder)
            if found:
                results[key] = compare(found, options.passes)
                show(key, results[key])
                measure.save(file, {"settings": settings, "rows": results})


if __name__ == "__main__":
    main()
