"""What each setting of a plain training is worth, one changed at a time.

    OMP_NUM_THREADS=1 KERAS_BACKEND=torch \
        python benchmarks/training_settings.py --widths 32 64 128 --seeds 2 \
        --output training-settings

Trains the airbench network as the `cpu` recipe trains it, on 45,000 training
images of CIFAR-10, and again with each of `SETTINGS`. The accuracy is that on
the 5,000 training images that are left out; no test image is looked at.
Differences between settings are taken seed by seed. A training that is done is
kept in `--output` and not repeated. Writes `results.json` and `table.md` after
each training.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): the
kernels of convolutions move by the nearest half-orthogonal matrix to their
momentum and keep their norm, as in the released airbench94_muon; all else is
trained as before. Keras's own Muon gives kernels of four axes to AdamW.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import ops

import keras_robust as kr
from keras_robust.study.training import Training
from keras_robust.study.training import Triangle
from keras_robust.study.training import make_loss
from keras_robust.study.training import make_optimizer
from keras_robust.utils.environment import machine

VALIDATION = 5000


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


def muon(base, steps):
    """Muon for the kernels of convolutions, the usual optimizer for others."""
    others = make_optimizer(replace(base, epochs=1), steps)
    kernels = ConvolutionMuon(Triangle(0.24, steps, start=1.0, end=0.0))
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            others, {r"conv2d(_\d+)?/kernel": kernels}
        )
    )


# Changes of the `Training`, and of what the pipeline does.
SETTINGS = {
    "recipe": {},
    "biases 64 times faster": {"bias_rate": 64.0},
    "weights averaged (0.99)": {"weight_average": 0.99},
    "random flips": {"flip": "random"},
    "no label smoothing": {"label_smoothing": 0.0},
    "cosine": {"schedule": "one_cycle"},
    "plain momentum": {"optimizer": "sgd"},
    "momentum 0.9, rate 0.5": {"momentum": 0.9, "learning_rate": 0.5},
    "half of the rate": {"learning_rate": 0.375},
    "Adam, rate 0.003": {"optimizer": "adam", "learning_rate": 0.003},
    "Muon": {"muon": True},
}


def train(name, seed, options, data):
    """One training; what it reached and how long it took."""
    keras.utils.set_random_seed(seed)
    changes = dict(SETTINGS[name])
    use_muon = changes.pop("muon", False)
    flip = {"random": True}.get(changes.pop("flip", None), "alternating")
    training = replace(
        Training(
            epochs=options.epochs,
            learning_rate=0.75,
            optimizer="nesterov",
            momentum=0.85,
            schedule="triangle",
            batch_size=512,
            label_smoothing=0.2,
        ),
        **changes,
    )
    (x, y), held_out = data
    steps = -(-len(x) // training.batch_size)
    model = kr.models.airbench(widths=options.widths)
    kr.models.adapt_whitening(model, x[:5000])
    model.compile(
        muon(training, steps * training.epochs)
        if use_muon
        else make_optimizer(training, steps),
        make_loss(training, from_logits=True),
        metrics=["accuracy"],
    )
    start = time.process_time()
    model.fit(
        kr.datasets.pipeline(
            x,
            y,
            training.batch_size,
            shuffle=True,
            seed=seed,
            augment=True,
            padding=2,
            flip=flip,
            fill_mode="reflect",
        ),
        epochs=training.epochs,
        shuffle=False,
        verbose=0,
    )
    seconds = time.process_time() - start
    outputs = model.predict(held_out[0], batch_size=500, verbose=0)
    accuracy = float(np.mean(outputs.argmax(-1) == held_out[1]))
    return {"accuracy": accuracy, "cpu_seconds": seconds}


def table(done, options):
    """The results as Markdown, the best first."""
    found = {}
    for each in done:
        found.setdefault(each["name"], {})[each["seed"]] = each
    lines = [
        f"Widths {options.widths}, {options.epochs} epochs, accuracy on "
        f"{VALIDATION} training images that were left out, %; mean over seeds "
        "and range.",
        "",
        "| setting | accuracy | minus the recipe's, by seed | CPU minutes |",
        "|---|---|---|---|",
    ]

    def mean(name):
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


def main():
    """All trainings that are not done yet, then the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--widths", type=int, nargs=3, default=[64, 128, 128])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, help="all that are not left out")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=SETTINGS)
    parser.add_argument(
        "--output", type=Path, default=Path("training-settings")
    )
    options = parser.parse_args()
    x, y = kr.datasets.load("cifar10").train
    data = (
        (x[:-VALIDATION][: options.images], y[:-VALIDATION][: options.images]),
        (x[-VALIDATION:], y[-VALIDATION:]),
    )
    options.output.mkdir(parents=True, exist_ok=True)
    path, done = options.output / "results.json", []
    kept = {
        "widths": options.widths,
        "epochs": options.epochs,
        "images": options.images,
    }
    if path.exists():
        written = json.loads(path.read_text())
        if written["options"] != kept:
            parser.error(f"{path} holds results of {written['options']}")
        done = written["trainings"]
    for seed in range(options.seeds):
        for name in options.only or SETTINGS:
            if any(d["name"] == name and d["seed"] == seed for d in done):
                continue
            done.append(
                {"name": name, "seed": seed, **train(name, seed, options, data)}
            )
            print(done[-1], flush=True)
            text = {"machine": machine(), "options": kept, "trainings": done}
            path.write_text(json.dumps(text, indent=1) + "\n")
            (options.output / "table.md").write_text(table(done, options))
    print(table(done, options))


if __name__ == "__main__":
    main()
