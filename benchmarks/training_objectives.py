"""Robust accuracy of training objectives at equal training time.

    python benchmarks/training_objectives.py --output objectives-linf
    python benchmarks/training_objectives.py --norm l2 --epsilon 0.5 \
        --output objectives-l2
    OMP_NUM_THREADS=1 KERAS_BACKEND=torch \
        python benchmarks/training_objectives.py --widths 32 64 128 \
        --clock cpu --images 500 --attack-steps 50 --queries 500 \
        --output objectives-cpu-linf
    KERAS_BACKEND=jax python benchmarks/training_objectives.py \
        --minutes 0.5 --batch-size 500 --steps 50 --learning-rate 0.3 \
        --output objectives-linf-gpu
    OMP_NUM_THREADS=1 KERAS_BACKEND=torch \
        python benchmarks/training_objectives.py --dataset fashion_mnist \
        --minutes 1 --clock cpu --images 200 --attack-steps 50 --queries 500 \
        --output objectives-small

Trains the airbench network of `--widths`, with `--unwhitened` without the layer
that whitens patches (on Fashion-MNIST and digits a small network), with the
objectives and attacks of `TRAININGS` for the same time, whatever number of
epochs that is, from the same weights with the same learning rates: up to
`--learning-rate` in the first fifth of the time and down to 0 in the rest.
Compilation is not counted. `--clock cpu` counts the seconds of the process on
all its cores, for a machine that does other work beside it. A second of one
machine is not one of another: with `--reference-images` a training has the time
in which N-FGSM sees so many images, measured every few epochs meanwhile. Images
are held where the model is trained, and layers in front of it shift and flip
those of CIFAR-10, so that the preparation of batches takes a small part of the
time.
Reports clean and robust accuracy, images per second and epochs. Nothing is
chosen by test images.

`--dtype mixed_bfloat16` is for training only: accuracies are always those of
the same weights in float32.

The command goes on after a stop: a training that is done is kept in `--output`
and not repeated, and one that is not goes on from its last epoch, its
evaluation from its last batch (the order of images and random starts begin
anew). With a higher `--seeds` and `--only` the best ones are repeated. Writes
`table.md`, `results.json` and `accuracies.png` after each training.

`--compile-only` runs two steps of each training and evaluates nothing. With
`JAX_COMPILATION_CACHE_DIR` set, several such processes with different `--only`
compile at the same time what a later command then reads.
"""

import argparse
import json
import re
import shutil
import statistics
import time
from pathlib import Path

import keras
import matplotlib.figure
import numpy as np
from keras import ops

import keras_robust as kr
from keras_robust.utils.environment import machine

# L-infinity radius by data set.
EPSILON = {"cifar10": 8 / 255, "fashion_mnist": 0.1, "digits": 0.15}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
# Of N-FGSM, by which the speed of a machine is measured.
REFERENCE_STEPS, EPOCHS_BETWEEN_MEASUREMENTS = 4, 4
# What does not change a training but how long it is.
BUDGETS = ("minutes", "reference_images")
# The first ones are what a reader compares first: a run may be stopped.
TRAININGS = {
    "PGD": {"attack": "pgd"},
    "N-FGSM": {"attack": "n-fgsm"},
    "TRADES 6, 2 steps": {
        "attack": "two steps",
        "objective": kr.objectives.TRADES(6.0),
    },
    "free, 4 replays": {"attack": "fgsm", "replays": 4},
    "TRADES 6": {"attack": "pgd", "objective": kr.objectives.TRADES(6.0)},
    "PGD, 2 steps": {"attack": "two steps"},
    "N-FGSM, averaged": {"attack": "n-fgsm", "averaging": 0.99},
    "IKL": {"attack": "pgd", "objective": kr.objectives.IKL()},
    "MART": {"attack": "pgd", "objective": kr.objectives.MART()},
    "N-FGSM, AWP": {"attack": "n-fgsm", "weight_perturbation": 0.005},
    "PGD, AWP": {"attack": "pgd", "weight_perturbation": 0.005},
    "mixed, N-FGSM": {
        "attack": "n-fgsm",
        "objective": kr.objectives.Mixed(0.5),
    },
    "TRADES 1": {"attack": "pgd", "objective": kr.objectives.TRADES(1.0)},
    "TRADES 6, AWP": {
        "attack": "pgd",
        "objective": kr.objectives.TRADES(6.0),
        "weight_perturbation": 0.005,
    },
    "logit pairing, PGD": {
        "attack": "pgd",
        "objective": kr.objectives.LogitPairing(),
    },
    "mixed, PGD": {"attack": "pgd", "objective": kr.objectives.Mixed(0.5)},
    "plain": {"objective": None},
}


class TimeBudget(keras.callbacks.Callback):
    """Learning rates by time, and an end when it is over.

    The first epoch of a process, which compiles, is not counted.

    Args:
        budget: Float, for how long to train.
        peak: Float, the largest learning rate.
        clock: `() -> seconds`.
        path: File that keeps the time spent.
        unit: `() -> seconds`, how long a unit of the budget takes now.
    """

    def __init__(self, budget, peak, clock, path, unit):
        super().__init__()
        self.budget, self.peak, self.clock = budget, peak, clock
        self.path, self.unit, self.compiling = path, unit, True
        self.spent, self.steps, self.timed, self.seconds = 0.0, 0, 0, 0.0
        if path.exists():
            for name, value in json.loads(path.read_text()).items():
                setattr(self, name, value)

    def on_epoch_begin(self, epoch, logs=None):
        """Set the learning rate."""
        share = min(self.spent / self.budget, 1.0)
        rising = min((share + 0.02) / 0.2, 1.0)
        self.model.optimizer.learning_rate = self.peak * min(
            rising, (1 - share) / 0.8
        )
        self.start = self.clock()

    def on_epoch_end(self, epoch, logs=None):
        """Count steps and time."""
        self.steps += self.params["steps"]
        if not self.compiling:
            taken = self.clock() - self.start
            self.seconds += taken
            self.spent += taken / self.unit()
            self.timed += self.params["steps"]
        self.compiling = False
        names = ("spent", "steps", "timed", "seconds")
        kept = {name: getattr(self, name) for name in names}
        self.path.write_text(json.dumps(kept))
        if self.spent >= self.budget:
            self.model.stop_training = True


def one_second():
    """The unit of a budget of seconds."""
    return 1.0


class ReferenceSpeed:
    """How long N-FGSM takes for an image, on this machine and now.

    Args:
        options: What `main` parses.
        data: `ImageDataset`.
    """

    def __init__(self, options, data):
        _, self.fitted = compiled("N-FGSM", 0, options, data)
        self.batch = [
            ops.convert_to_tensor(part[: options.batch_size])
            for part in data.train
        ]
        self.clock, self.calls = CLOCKS[options.clock], 0
        self.recent = [self._measure() for _ in range(3)][1:]

    def __call__(self):
        """Seconds for an image, of the last few measurements the median."""
        if self.calls % EPOCHS_BETWEEN_MEASUREMENTS == 0:
            self.recent = [*self.recent[-4:], self._measure()]
        self.calls += 1
        return statistics.median(self.recent)

    def _measure(self):
        x, y = self.batch
        start = self.clock()
        for _ in range(REFERENCE_STEPS):
            self.fitted.train_on_batch(x, y)
        return (self.clock() - start) / (REFERENCE_STEPS * len(x))


def network(options, x):
    """An untrained network for a data set."""
    if options.dataset != "cifar10":
        return kr.models.small_cnn(x.shape[1:], filters=(16, 32))
    model = kr.models.airbench(
        widths=options.widths, whitening=not options.unwhitened
    )
    kr.models.adapt_whitening(model, x[:5000])
    return model


def with_augmentation(model, seed):
    """A model that shifts and flips images in training, in front of another."""
    return keras.Sequential(
        [
            keras.Input(model.input_shape[1:]),
            kr.layers.PadAndCrop(4, seed=seed, dtype="float32"),
            keras.layers.RandomFlip("horizontal", seed + 1, dtype="float32"),
            model,
        ]
    )


def batches(x, y, size, seed):
    """Shuffled batches without end, of images on the device of the backend."""
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    generator = np.random.default_rng(seed)
    while True:
        rows = generator.permutation(len(x))[: len(x) // size * size]
        for chosen in np.split(rows, len(x) // size):
            chosen = ops.convert_to_tensor(chosen.astype("int32"))
            yield ops.take(x, chosen, axis=0), ops.take(y, chosen, axis=0)


def attack_of(name, options, seed):
    """An attack of `TRAININGS`."""
    norm, epsilon = options.norm, options.epsilon
    if name == "n-fgsm":
        return kr.NFGSMAttack(norm, epsilon, seed=seed)
    if name == "fgsm":
        return kr.FGSMAttack(norm, epsilon)
    steps, step_size = {"pgd": (7, epsilon / 4), "two steps": (2, epsilon)}[
        name
    ]
    return kr.PGDAttack(norm, epsilon, step_size, steps=steps, seed=seed)


def unfinished(options, name, seed):
    """The folder for the state of a training that is not done."""
    words = re.sub(r"\W+", "-", name).strip("-").lower()
    return options.output / "unfinished" / f"{words}-{seed}"


def compiled(name, seed, options, data):
    """A network and the model that trains it, which may be the same."""
    model = fitted = network(options, data.train[0])
    if options.dataset == "cifar10":
        fitted = with_augmentation(model, seed)
    settings = dict(TRAININGS[name])
    averaging = settings.pop("averaging", None)
    if settings.get("objective", "adversarial") is not None:
        # With TRADES and IKL the attack starts near the image by itself.
        attack = attack_of(settings.pop("attack"), options, seed)
        own = getattr(settings.get("objective"), "attack_loss", None)
        if own is None and isinstance(attack, kr.PGDAttack):
            attack = attack.replace(random_start=True)
        fitted = kr.AdversarialModel(fitted, attack, **settings)
    fitted.compile(
        keras.optimizers.SGD(
            0.0,
            momentum=0.9,
            nesterov=True,
            use_ema=averaging is not None,
            ema_momentum=averaging or 0.99,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model, fitted


def train(name, seed, options, data, folder):
    """Train, or read what was trained before a stop.

    Args:
        name: A key of `TRAININGS`.
        seed: Int.
        options: What `main` parses.
        data: `ImageDataset`.
        folder: Path for the state of the training.

    Returns:
        The network and a dictionary of plain numbers.
    """
    weights, facts = folder / "trained.weights.h5", folder / "trained.json"
    model, fitted = compiled(name, seed, options, data)
    if facts.exists():
        model.load_weights(weights)
        return model, json.loads(facts.read_text())
    kept, time_path = folder / "training", folder / "time.json"
    if not kept.exists():
        time_path.unlink(missing_ok=True)
    unit = None
    if options.reference_images:
        unit = ReferenceSpeed(options, data)
    budget = TimeBudget(
        options.reference_images or 60 * options.minutes,
        options.learning_rate,
        CLOCKS[options.clock],
        time_path,
        unit or one_second,
    )
    backup = keras.callbacks.BackupAndRestore(str(kept), double_checkpoint=True)
    x, y = data.train
    history = fitted.fit(
        batches(x, y, options.batch_size, seed),
        epochs=10**6,
        steps_per_epoch=options.steps,
        shuffle=False,
        callbacks=[budget, backup],
        verbose=0,
    ).history
    found = {
        "trained": history["accuracy"][-1],
        "epochs": budget.steps * options.batch_size / len(x),
        "images_per_second": budget.timed * options.batch_size / budget.seconds,
        "seconds": budget.seconds,
    }
    if unit:
        # In the time that N-FGSM takes for one image.
        found["cost"] = budget.spent / (budget.timed * options.batch_size)
    model.save_weights(weights)
    facts.write_text(json.dumps(found))
    return model, found


def compile_only(name, options, data):
    """Two steps of a training."""
    _, fitted = compiled(name, 0, options, data)
    x, y = data.train
    fitted.fit(
        batches(x, y, options.batch_size, 0),
        steps_per_epoch=2,
        shuffle=False,
        verbose=0,
    )


def train_and_evaluate(name, seed, options, data, evaluated):
    """One training and its evaluation.

    Args:
        name: A key of `TRAININGS`.
        seed: Int.
        options: What `main` parses.
        data: `ImageDataset`.
        evaluated: A model for the trained weights, the same for all trainings:
            an attack on it is compiled once.

    Returns:
        Dictionary of plain numbers.
    """
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(options.dtype)
    folder = unfinished(options, name, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model, found = train(name, seed, options, data, folder)
    evaluated.set_weights(model.get_weights())
    evaluation = kr.AutoAttack(
        options.norm,
        options.epsilon,
        steps=options.attack_steps,
        queries=options.queries,
        seed=0,
        batch_size=options.attack_batch,
    )
    x, y = data.test
    report = kr.evaluate_robustness(
        evaluated,
        (x[: options.images], y[: options.images]),
        {"autoattack": evaluation},
        batch_size=options.attack_batch,
        state_path=folder / "evaluation",
        verbose=0,
    )
    return {
        "clean": report.accuracy["clean"],
        "robust": report.accuracy["autoattack"],
        **found,
        "flags": [str(flag) for flag in report.flags],
    }


def cell(values, form):
    """Mean and standard deviation of a few numbers."""
    mean = format(statistics.mean(values), form)
    if len(values) < 2:
        return mean
    return f"{mean} ± {format(statistics.stdev(values), form)}"


def table(results, options):
    """The results as Markdown, the most robust first."""
    costs = cost_of(results)
    last = "time per image" if costs else "images/s"

    def last_of(name):
        if costs:
            return cell(costs[name], ".1f")
        return cell([r["images_per_second"] for r in results[name]], ".0f")

    lines = [
        f"{options.dataset}, {options.norm} {options.epsilon:.4g}, "
        f"{length_of(options)} each ({options.clock} time), "
        f"AutoAttack ({options.attack_steps} steps, {options.queries} "
        f"queries) on {options.images} test images; %.",
        "",
        f"| training | clean | robust | epochs | {last} |",
        "|---|---|---|---|---|",
    ]
    by_accuracy = sorted(
        results,
        key=lambda name: -statistics.mean(r["robust"] for r in results[name]),
    )
    for name in by_accuracy:
        found = results[name]
        lines.append(
            f"| {name} | {cell([100 * r['clean'] for r in found], '.1f')} "
            f"| {cell([100 * r['robust'] for r in found], '.1f')} "
            f"| {cell([r['epochs'] for r in found], '.1f')} "
            f"| {last_of(name)} |"
        )
    return "\n".join(lines) + "\n"


def length_of(options):
    """How long a training is, in words."""
    if options.reference_images:
        return f"the time of N-FGSM for {options.reference_images:,} images"
    return f"{options.minutes:g} minutes"


def cost_of(results):
    """How long a training takes for an image, N-FGSM 1, by name.

    Args:
        results: List of dictionaries of plain numbers by training.

    Returns:
        List of numbers by training; empty where no speed was measured.
    """
    rows = [one for found in results.values() for one in found]
    if not any("cost" in one for one in rows):
        return {}

    def cost(one):
        if "cost" in one:
            return one["cost"]
        # Trainings by the minute are from the machine of that of N-FGSM.
        speed = results["N-FGSM"][0]["images_per_second"]
        return speed / one["images_per_second"]

    return {name: list(map(cost, found)) for name, found in results.items()}


def picture(results, path):
    """Clean against robust accuracy."""
    figure = matplotlib.figure.Figure((6, 5), layout="constrained")
    ax = figure.subplots()
    for name, found in results.items():
        clean = np.mean([r["clean"] for r in found])
        robust = np.mean([r["robust"] for r in found])
        ax.plot(clean, robust, "o")
        ax.annotate(name, (clean, robust), fontsize=8)
    ax.set(xlabel="clean accuracy", ylabel="robust accuracy")
    figure.savefig(path)


def main():
    """All trainings that are not done yet, then the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--dataset", default="cifar10", choices=EPSILON)
    parser.add_argument("--norm", default="linf", choices=("linf", "l2"))
    parser.add_argument(
        "--epsilon", type=float, help="8/255, 0.1 or 0.15 by data set"
    )
    parser.add_argument(
        "--widths",
        type=int,
        nargs=3,
        default=[64, 128, 128],
        help="of the airbench network",
    )
    parser.add_argument(
        "--unwhitened",
        action="store_true",
        help="its first layer is trained like the others",
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument(
        "--reference-images",
        type=int,
        help="in place of --minutes: the time of N-FGSM for so many images",
    )
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="per epoch")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--attack-steps", type=int, default=100)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument(
        "--attack-batch", type=int, default=500, help="images at once"
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "mixed_bfloat16"),
        help="of the training",
    )
    parser.add_argument("--only", nargs="+", choices=TRAININGS)
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("objectives"))
    options = parser.parse_args()
    if options.epsilon is None:
        if options.norm != "linf":
            parser.error("--norm l2 needs --epsilon, such as 0.5")
        options.epsilon = EPSILON[options.dataset]
    data = kr.datasets.load(options.dataset)
    evaluated = network(options, data.train[0])
    if options.compile_only:
        for name in options.only or TRAININGS:
            keras.utils.set_random_seed(0)
            keras.config.set_dtype_policy(options.dtype)
            compile_only(name, options, data)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    kept = {
        key: value
        for key, value in vars(options).items()
        if key not in ("output", "only", "seeds", "compile_only", *BUDGETS)
    }
    chosen = "reference_images" if options.reference_images else "minutes"
    length = {chosen: getattr(options, chosen)}
    path, done = options.output / "results.json", []
    if path.exists():
        written = json.loads(path.read_text())
        if written["options"] != kept:
            parser.error(f"{path} holds results of {written['options']}")
        done = written["trainings"]
    for seed in range(options.seeds):
        for name in options.only or TRAININGS:
            if any(d["name"] == name and d["seed"] == seed for d in done):
                continue
            start = time.perf_counter()
            found = train_and_evaluate(name, seed, options, data, evaluated)
            done.append({"name": name, "seed": seed, **length, **found})
            print(
                f"{name:20} seed {seed}: clean {found['clean']:.1%}, robust "
                f"{found['robust']:.1%}, {found['epochs']:.1f} epochs, "
                f"{time.perf_counter() - start:.0f} s with its evaluation",
                flush=True,
            )
            text = {
                "machine": machine(),
                "options": kept,
                "trainings": done,
            }
            path.write_text(json.dumps(text, indent=1) + "\n")
            write_table(done, options)
            shutil.rmtree(unfinished(options, name, seed))
    print(write_table(done, options))


def write_table(done, options):
    """Write what the trainings done so far found, and return the table."""
    results = {}
    for one in done:
        results.setdefault(one["name"], []).append(one)
    text = table(results, options)
    (options.output / "table.md").write_text(text)
    picture(results, options.output / "accuracies.png")
    return text


if __name__ == "__main__":
    main()
