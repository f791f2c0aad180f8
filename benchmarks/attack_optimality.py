"""How near the adversarial examples of minimum-norm attacks are.

    pip install foolbox==3.3.4 adv-lib==0.2.8
    pip install --no-deps torchattacks==3.5.1
    pip install --no-deps adversarial-robustness-toolbox==1.20.1
    KERAS_BACKEND=torch python benchmarks/attack_optimality.py
    KERAS_BACKEND=torch python benchmarks/attack_optimality.py \\
        --dataset cifar10

Every attack gets the same Keras model and the same images, which the model
classifies correctly, and at most 2,000 forward and backward passes for each,
counted by a layer in front of the model. The distance is that of the image
which it returns, if the model misclassifies it; the optimality is that of
AttackBench (arXiv:2404.19460) against the nearest example that any of the
attacks found, with its standard error over images (bootstrap). Settings are the
defaults of each library but for the number of steps. Without `--models` two
small networks are trained, one of them adversarially, and kept in `--networks`,
with the distances of attacks that have finished: the same command goes on after
them. `--again` runs attacks once more.

Results: see `results/attack-optimality-*.json`, docs/minimum_norm.md, whose
tables `optimality_table.py` prints.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import math
import pathlib
import sys
import time
from typing import NamedTuple
from unittest import mock

import keras
import measure
import numpy as np
import torch
from peers import channels_first

import keras_robust as kr
from keras_robust.attacks.norms import distances
from keras_robust.evaluation import attack_optimality
from keras_robust.study.training import Training
from keras_robust.study.training import make_optimizer

NORMS = ("l0", "l1", "l2", "linf")
ORDER = {"l0": 0, "l1": 1, "l2": 2, "linf": math.inf}
# Some attacks call the model once more before or after their steps.
SPARE_PASSES = 20
# Weights that attacks with a binary search try.
SEARCH_STEPS = 9


class Recipe(NamedTuple):
    """How a network is trained: on the first images, at an L-inf radius."""

    filters: tuple[int, ...]
    images: int
    epochs: int
    epsilon: float
    augment: bool


NETWORKS = {
    "cifar10": Recipe((16, 32, 64, 64), 10_000, 8, 8 / 255, True),
    "fashion_mnist": Recipe((16, 32, 32), 10_000, 5, 0.1, False),
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


def ours(attack, model, x, y):
    """An attack of this package."""
    return attack(model, x, y, verbose=0)


def torch_attack(run, model, x, y):
    """A function of a torch module, images (channels first) and labels."""
    images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))
    labels = torch.from_numpy(y.astype("int64"))
    moved = run(channels_first(model), images, labels)
    return np.moveaxis(moved.detach().numpy(), 1, -1)


def foolbox_attack(attack, model, images, labels):
    """An attack of foolbox."""
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, clipped, _ = attack(wrapped, images, labels, epsilons=None)
    return clipped


def art_attack(make, model, images, labels):
    """An attack of ART on its estimator."""
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=model.inner.output_shape[-1],
        clip_values=(0, 1),
        device_type="cpu",
    )
    return torch.from_numpy(make(estimator).generate(images.numpy(), labels))


def torchattacks_attack(make, model, images, labels):
    """An attack of torchattacks."""
    return make(model)(images, labels)


def our_attacks(norm, steps, classes):
    """Our attacks of a norm, by name."""
    # A step of FAB evaluates its result; without a target it takes a gradient
    # for each class.
    single = 2 * steps // (2 * classes + 1)
    targets = min(9, classes - 1)
    found = {"fmn": kr.FMNAttack(norm, steps=steps)}
    if norm == "l0":
        found["sigma-zero"] = kr.SigmaZeroAttack(steps=steps)
        return found
    if norm == "l1":
        found["pdpgd"] = kr.PDPGDAttack(steps=steps)
    found["fab"] = kr.FABAttack(norm, steps=single)
    found["fab-t"] = kr.FABAttack(
        norm, steps=2 * steps // (3 * targets), targets=targets
    )
    if norm == "l2":
        found["ddn"] = kr.DDNAttack(steps=steps)
        found["carlini-wagner"] = kr.CarliniWagnerL2(
            steps=steps // SEARCH_STEPS, search_steps=SEARCH_STEPS
        )
    return found


def import_adv_lib():
    """The attacks of adv-lib, or `None` without it.

    It imports packages for drawing and for vision models, which none of the
    attacks here uses; stand-ins take their place where they are missing.
    """
    if importlib.util.find_spec("adv_lib") is None:
        return None
    for name in ("visdom", "torchvision", "tqdm"):
        missing = name not in sys.modules and not importlib.util.find_spec(name)
        if missing:
            sys.modules[name] = mock.MagicMock()
    return importlib.import_module("adv_lib.attacks")


def adv_lib_attacks(norm, steps):
    """Attacks of adv-lib, by name."""
    attacks = import_adv_lib()
    if attacks is None:
        return {}
    order = ORDER[norm]
    partial = functools.partial
    found = {"fmn": partial(attacks.fmn, norm=order, steps=steps)}
    if norm == "l0":
        found["sigma-zero"] = partial(attacks.sigma_zero, num_steps=steps)
        # Of its authors' two operators for L0 the one that they prefer.
        found["pdpgd"] = partial(
            attacks.pdpgd, norm=0, proximal_operator=23, num_steps=steps
        )
        return found
    found["pdpgd"] = partial(attacks.pdpgd, norm=order, num_steps=steps)
    if norm in ("l1", "l2"):
        found["alma"] = partial(attacks.alma, distance=norm, num_steps=steps)
    if norm == "l2":
        found["ddn"] = partial(attacks.ddn, steps=steps, levels=None)
        found["pdgd"] = partial(attacks.pdgd, num_steps=steps)
    return found


def foolbox_attacks(norm, steps):
    """Attacks of foolbox, by name."""
    if importlib.util.find_spec("foolbox") is None:
        return {}
    from foolbox import attacks

    searched = {
        "binary_search_steps": SEARCH_STEPS,
        "steps": steps // SEARCH_STEPS,
    }
    found = {
        "l0": {"fmn": lambda: attacks.L0FMNAttack(steps=steps)},
        "l1": {
            "fmn": lambda: attacks.L1FMNAttack(steps=steps),
            "ead": lambda: attacks.EADAttack(decision_rule="L1", **searched),
        },
        "l2": {
            "fmn": lambda: attacks.L2FMNAttack(steps=steps),
            "ddn": lambda: attacks.DDNAttack(steps=steps),
            "carlini-wagner": lambda: attacks.L2CarliniWagnerAttack(**searched),
        },
        "linf": {
            "fmn": lambda: attacks.LInfFMNAttack(steps=steps),
        },
    }[norm]
    return {
        name: functools.partial(foolbox_attack, make())
        for name, make in found.items()
    }


def torchattacks_attacks(norm, steps):
    """Attacks of torchattacks, by name."""
    if importlib.util.find_spec("torchattacks") is None or norm != "l2":
        return {}
    import torchattacks

    made = {
        "carlini-wagner": functools.partial(torchattacks.CW, steps=steps),
    }
    return {
        name: functools.partial(torchattacks_attack, make)
        for name, make in made.items()
    }


def art_attacks(norm, steps):
    """Attacks of ART, by name."""
    if importlib.util.find_spec("art") is None or norm not in ("l1", "l2"):
        return {}
    from art.attacks import evasion

    options = {"batch_size": 512, "verbose": False}
    searched = {**options, "binary_search_steps": SEARCH_STEPS}
    if norm == "l1":
        made = {
            "ead": functools.partial(
                evasion.ElasticNet,
                max_iter=steps // SEARCH_STEPS,
                decision_rule="L1",
                **searched,
            )
        }
    else:
        made = {
            # Halving and doubling of the step: five predictions each.
            "carlini-wagner": functools.partial(
                evasion.CarliniL2Method,
                max_iter=steps // (4 * SEARCH_STEPS),
                **searched,
            ),
            "deepfool": functools.partial(evasion.DeepFool, **options),
        }
    return {
        name: functools.partial(art_attack, make) for name, make in made.items()
    }


def all_attacks(norm, passes, classes):
    """Functions `(model, x, y) -> images` by library and attack."""
    steps = (passes - SPARE_PASSES) // 2
    found = {
        f"ours {name}": functools.partial(ours, attack)
        for name, attack in our_attacks(norm, steps, classes).items()
    }
    peers = {
        "adv-lib": adv_lib_attacks(norm, steps),
        "ART": art_attacks(norm, steps),
        "foolbox": foolbox_attacks(norm, steps),
        "torchattacks": torchattacks_attacks(norm, steps),
    }
    for library, attacks in peers.items():
        for name, run in attacks.items():
            found[f"{library} {name}"] = functools.partial(torch_attack, run)
    return found


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
    fooled = model.predict(moved, verbose=0).argmax(-1) != y
    distance = distances(moved.astype("float64"), x.astype("float64"), norm)
    return np.where(fooled, distance, np.inf), passes, seconds


def finished(path, settings):
    """What a file holds of attacks that ran with these settings, by attack."""
    if not path.exists():
        return {}
    saved = json.loads(path.read_text())
    return saved["attacks"] if saved["settings"] == settings else {}


def run_attacks(model, x, y, norm, options, path):
    """Distances, passes and seconds of each attack, kept in a file."""
    settings = {"images": len(x), "passes": options.passes}
    found = finished(path, settings)
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
        }
        print(f"  {name}: {seconds:.0f} s", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": settings, "attacks": found}))
    return found


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
    return {
        name: trained_network(
            options.networks / f"{name}.keras", options.dataset, adversarial
        )
        for name, adversarial in (
            (f"{options.dataset}-adversarial", True),
            (f"{options.dataset}-standard", False),
        )
    }


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
    parser.add_argument("--models", nargs="*", type=pathlib.Path)
    parser.add_argument(
        "--networks", type=pathlib.Path, default="runs/networks"
    )
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--norms", nargs="*", choices=NORMS, default=NORMS)
    parser.add_argument("--passes", type=int, default=2000)
    parser.add_argument("--only", nargs="*", help="words of attacks' names")
    parser.add_argument("--again", nargs="*", default=(), help="the same")
    parser.add_argument("--name", help="end of the name of the results")
    options = parser.parse_args()
    file = f"attack-optimality-{options.name or options.dataset}"
    if keras.backend.backend() != "torch":
        parser.error("the other libraries attack PyTorch: KERAS_BACKEND=torch")
    x, y = kr.datasets.load(options.dataset).test
    results = {}
    settings = {"images": options.images, "passes": options.passes}
    for name, model in networks(options).items():
        right = model.predict(x, verbose=0).argmax(-1) == y
        settings[f"accuracy of {name}"] = float(right.mean())
        rows = np.flatnonzero(right)[: options.images]
        for norm in options.norms:
            key = f"{name} {norm}"
            print(f"{key}:", flush=True)
            path = options.networks / "distances" / f"{name}-{norm}.json"
            found = run_attacks(model, x[rows], y[rows], norm, options, path)
            results[key] = compare(found, options.passes)
            show(key, results[key])
            measure.save(file, {"settings": settings, "rows": results})


if __name__ == "__main__":
    main()
