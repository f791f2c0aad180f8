"""What each setting of a plain training is worth, one changed at a time.

    OMP_NUM_THREADS=1 KERAS_BACKEND=torch \
        python benchmarks/training_settings.py --widths 32 64 128 --seeds 2 \
        --output training-settings

Trains the airbench network (channels `--widths`, else its defaults) on 45,000
training images of CIFAR-10, with the optimizer, schedule, loss, batches,
augmentation and dtype policy of the recipe `cpu`, for `--epochs` epochs, and
again with each of `SETTINGS`. The accuracy is that on the 5,000 training images
that are left out; no test image is looked at. Differences between settings are
taken seed by seed.

A training that is done is kept in `--output` and not repeated, and several such
commands at once share the work. Another backend, dtype policy, version or
recipe needs another folder. Writes `results.json` and `table.md` after each
training.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): the
kernels of convolutions move by the nearest half-orthogonal matrix to their
momentum and keep their norm, as in the released airbench94_muon; all else is
trained as before. Keras's own Muon gives kernels of four axes to AdamW.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_robust as kr
from keras_robust.study.replication.store import StageBusyError
from keras_robust.study.replication.store import StageStore
from keras_robust.study.training import Training
from keras_robust.study.training import Triangle
from keras_robust.study.training import make_loss
from keras_robust.study.training import make_optimizer
from keras_robust.utils.environment import machine
from keras_robust.utils.files import locked
from keras_robust.utils.files import read_json
from keras_robust.utils.files import write_atomically
from keras_robust.utils.files import write_json

# Training images that are left out, and judge.
VALIDATION = 5000
# Training and held-out images with labels.
Data = tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# A setting and a seed.
Job = tuple[str, int]


class ConvolutionMuon(keras.optimizers.Muon):
    """Muon for kernels `(height, width, inputs, outputs)`, as matrices.

    Args:
        learning_rate: Float or schedule.
        momentum: Float in [0, 1).
        **kwargs: Arguments of `keras.optimizers.Muon`.
    """

    def __init__(self, learning_rate=0.24, momentum=0.6, **kwargs):
        super().__init__(
            learning_rate,
            momentum=momentum,
            weight_decay=None,
            rms_rate=None,
            **kwargs,
        )

    def build(self, var_list):
        """Leave none of the kernels to AdamW."""
        super().build(var_list)
        self.adam_velocities = [None for _ in var_list]

    def update_step(self, gradient, variable, learning_rate):
        """Give a kernel the norm of a half-orthogonal one and move it."""
        norm = ops.norm(ops.reshape(variable, (-1,)))
        self.assign(variable, variable * (variable.shape[-1] ** 0.5 / norm))
        super().update_step(gradient, variable, learning_rate)

    def zeropower_via_newtonschulz5(self, x, steps):
        """Half-orthogonalize a kernel as a matrix."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        made = super().zeropower_via_newtonschulz5(matrix, steps)
        return ops.reshape(made, x.shape)


def muon(base: Training, steps: int) -> keras.optimizers.Optimizer:
    """Muon for the kernels of convolutions, the usual optimizer for others."""
    others = make_optimizer(replace(base, epochs=1), steps)
    kernels = ConvolutionMuon(Triangle(0.24, steps, start=1.0, end=0.0))
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            others, {r"conv2d(_\d+)?/kernel": kernels}
        )
    )


@dataclass(frozen=True)
class Setting:
    """A difference to the recipe.

    Attributes:
        training: Attributes of its `Training`.
        flip: As `flip` of a `Study`; `None` for the recipe's.
        is_muon: Whether Muon moves the kernels of convolutions.
    """

    training: dict[str, Any] = field(default_factory=dict)
    flip: bool | str | None = None
    is_muon: bool = False


SETTINGS = {
    "recipe": Setting(),
    "biases 64 times faster": Setting({"bias_rate": 64.0}),
    "weights averaged (0.99)": Setting({"weight_average": 0.99}),
    "random flips": Setting(flip=True),
    "no label smoothing": Setting({"label_smoothing": 0.0}),
    "cosine": Setting({"schedule": "one_cycle"}),
    "plain momentum": Setting({"optimizer": "sgd"}),
    "momentum 0.9, rate 0.5": Setting({"momentum": 0.9, "learning_rate": 0.5}),
    "half of the rate": Setting({"learning_rate": 0.375}),
    "Adam, rate 0.003": Setting({"optimizer": "adam", "learning_rate": 0.003}),
    "Muon": Setting(is_muon=True),
}


def main() -> None:
    """All trainings that are not done yet, then the table."""
    parser = command_line()
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    found = claim_folder(options)
    if found != options_kept(options):
        parser.error(f"{options.output} holds results of {found}")
    store = StageStore(options.output / "trainings")
    data = load(options.images)
    left = [
        (name, seed)
        for seed in range(options.seeds)
        for name in options.only or SETTINGS
    ]
    while left:
        job = next_training(left, options, data, store)
        if job is None:
            time.sleep(1)
            continue
        left.remove(job)
        write(options, store)
    print(write(options, store))


def command_line() -> argparse.ArgumentParser:
    """What reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--widths", type=int, nargs=3, default=[64, 128, 128])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, help="all that are not left out")
    parser.add_argument(
        "--dtype-policy", default=recipe().dtype_policy, help="of the network"
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=SETTINGS)
    parser.add_argument(
        "--output", type=Path, default=Path("training-settings")
    )
    return parser


def recipe() -> kr.Study:
    """The recipe whose settings are changed."""
    return kr.study.get_recipe("cifar10", "cpu")


def study_of(name: str, options: argparse.Namespace) -> kr.Study:
    """The recipe with the options of the command line and a setting.

    Args:
        name: One of `SETTINGS`.
        options: The command line.
    """
    base, setting = recipe(), SETTINGS[name]
    changed = {
        "epochs": options.epochs,
        # Another optimizer keeps it as well.
        "learning_rate": base.training.learning_rate,
        **setting.training,
    }
    return replace(
        base,
        training=base.training.changed(changed),
        flip=base.flip if setting.flip is None else setting.flip,
        dtype_policy=options.dtype_policy,
    )


def described(study: kr.Study) -> dict[str, Any]:
    """How a study trains, as plain values.

    Args:
        study: What `study_of` returns.
    """
    return {**study.training.description(), **study.augmentation}


def options_kept(options: argparse.Namespace) -> dict[str, Any]:
    """What all trainings of a folder have in common, as plain values.

    Args:
        options: The command line.
    """
    return {
        "widths": options.widths,
        "epochs": options.epochs,
        "images": options.images,
        "dtype_policy": options.dtype_policy,
        "backend": keras.backend.backend(),
        "version": kr.__version__,
        "recipe": described(study_of("recipe", options)),
    }


def claim_folder(options: argparse.Namespace) -> dict[str, Any]:
    """Write what the folder is for, unless it is there.

    Args:
        options: The command line.

    Returns:
        The options of the trainings that the folder is for.
    """
    path = options.output / "results.json"
    kept = options_kept(options)
    with locked(options.output / "lock"):
        if path.exists():
            found: dict[str, Any] = read_json(path)["options"]
            return found
        write_json(
            path, {"machine": machine(), "options": kept, "trainings": []}
        )
    return kept


def load(images: int | None) -> Data:
    """The images to train on, and those that are left out.

    Args:
        images: How many to train on; `None` for all.
    """
    x, y = kr.datasets.load("cifar10").train
    return (
        (x[:-VALIDATION][:images], y[:-VALIDATION][:images]),
        (x[-VALIDATION:], y[-VALIDATION:]),
    )


def next_training(
    left: list[Job],
    options: argparse.Namespace,
    data: Data,
    store: StageStore,
) -> Job | None:
    """Find or do the first training that no other process is at.

    Args:
        left: Trainings that are not found yet.
        options: The command line.
        data: What `load` returns.
        store: Where trainings are kept.

    Returns:
        The training; `None` if other processes are at all of them.
    """
    for name, seed in left:
        study = study_of(name, options)
        try:
            with store.without_waiting():
                store.numbers(
                    f"seed{seed}",
                    inputs_of(name, seed, options),
                    partial(train, name, seed, study, options.widths, data),
                )
        except StageBusyError:
            continue
        return name, seed
    return None


def inputs_of(
    name: str, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """What a training depends on, as plain values.

    Args:
        name: One of `SETTINGS`.
        seed: Int >= 0.
        options: The command line.
    """
    return {
        **options_kept(options),
        "name": name,
        "seed": seed,
        "setting": described(study_of(name, options)),
        "is_muon": SETTINGS[name].is_muon,
    }


def train(
    name: str, seed: int, study: kr.Study, widths: list[int], data: Data
) -> dict[str, float]:
    """Train a network; return what it reached and how long it took.

    Args:
        name: One of `SETTINGS`.
        seed: Int >= 0.
        study: What `study_of` returns.
        widths: Channels of the network.
        data: What `load` returns.
    """
    keras.utils.set_random_seed(seed)
    training = study.training
    (x, y), held_out = data
    steps = -(-len(x) // training.batch_size)
    model = study.build(("airbench", {"widths": widths}))
    kr.models.adapt_whitening(model, x[:5000])
    model.compile(
        muon(training, steps * training.epochs)
        if SETTINGS[name].is_muon
        else make_optimizer(training, steps),
        make_loss(training, from_logits=True),
        metrics=["accuracy"],
    )
    batches = kr.datasets.pipeline(
        x,
        y,
        training.batch_size,
        shuffle=True,
        seed=seed,
        augment=training.augment,
        padding=study.padding,
        flip=study.flip,
        fill_mode=study.fill_mode,
    )
    start = time.process_time()
    model.fit(batches, epochs=training.epochs, shuffle=False, verbose=0)
    seconds = time.process_time() - start
    outputs = model.predict(held_out[0], batch_size=500, verbose=0)
    accuracy = float(np.mean(outputs.argmax(-1) == held_out[1]))
    print(
        f"{name}, seed {seed}: {accuracy:.1%}, {seconds / 60:.1f} CPU minutes",
        flush=True,
    )
    return {"accuracy": accuracy, "cpu_seconds": seconds}


def finished(
    options: argparse.Namespace, store: StageStore
) -> Iterator[dict[str, Any]]:
    """All trainings that are kept, of this process and of others.

    Args:
        options: The command line.
        store: Where trainings are kept.

    Yields:
        What `train` returns, with `name` and `seed`.
    """
    for seed in itertools.count():
        found = {
            name: store.find_numbers(
                f"seed{seed}", inputs_of(name, seed, options)
            )
            for name in SETTINGS
        }
        for name, numbers in found.items():
            if numbers is not None:
                yield {"name": name, "seed": seed, **numbers}
        # Other processes may have been asked for more seeds.
        if seed >= options.seeds and not any(found.values()):
            return


def write(options: argparse.Namespace, store: StageStore) -> str:
    """Write all trainings that are kept.

    Args:
        options: The command line.
        store: Where trainings are kept.

    Returns:
        Their table.
    """
    # What a process has read must not replace what another one reads later.
    with locked(options.output / "lock"):
        done = list(finished(options, store))
        results = {
            "machine": machine(),
            "options": options_kept(options),
            "trainings": done,
        }
        write_json(options.output / "results.json", results)
        text = table(done, options)
        write_atomically(
            options.output / "table.md",
            lambda part: part.write_text(text, encoding="utf-8"),
        )
    return text


def table(done: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """The results as Markdown, the best first.

    Args:
        done: What `finished` yields.
        options: The command line.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for each in done:
        found.setdefault(each["name"], {})[each["seed"]] = each
    lines = [
        f"Widths {options.widths}, {options.epochs} epochs, "
        f"{options.dtype_policy}, {keras.backend.backend()}; accuracy on "
        f"{VALIDATION} training images that were left out, %; mean over seeds "
        "and range.",
        "",
        "| setting | accuracy | minus the recipe's, by seed | CPU minutes |",
        "|---|---|---|---|",
    ]

    def mean(name: str) -> float:
        return statistics.mean(r["accuracy"] for r in found[name].values())

    for name in sorted(found, key=mean, reverse=True):
        values = [100 * r["accuracy"] for r in found[name].values()]
        base = found.get("recipe", {})
        differences = ", ".join(
            f"{100 * (r['accuracy'] - base[seed]['accuracy']):+.1f}"
            for seed, r in sorted(found[name].items())
            if seed in base and name != "recipe"
        )
        minutes = statistics.mean(
            r["cpu_seconds"] / 60 for r in found[name].values()
        )
        lines.append(
            f"| {name} | {statistics.mean(values):.1f} ({min(values):.1f} to "
            f"{max(values):.1f}) | {differences} | {minutes:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
