"""Robust accuracy by AutoAttack and its parts, ours beside torchattacks'.

    python benchmarks/autoattack_models.py --output runs/autoattack
    for backend in tensorflow jax torch; do
      KERAS_BACKEND=$backend python benchmarks/autoattack_agreement.py
    done
    KERAS_BACKEND=torch python benchmarks/autoattack_agreement.py --peer
    python benchmarks/autoattack_agreement.py --table
    python benchmarks/autoattack_agreement.py --flags --images 300

The same weights, the first 1,000 test images of Fashion-MNIST, the same steps
and queries for both (torchattacks' AutoAttack has 10 steps where the official
code has 100); one point is ten images. Finished cells are kept in `--output`,
so that it resumes.
"""

import argparse
import json
import os
import pathlib
import time

import keras
import numpy as np
from autoattack_models import AlwaysNoise  # noqa: F401, to load the networks
from keras import ops

import keras_robust as kr
from keras_robust.classifier import PREDICTION_DRAW
from keras_robust.classifier import Classifier

MODELS = ("standard", "adversarial", "d_r", "randomized", "masked")
RADII = {"linf": 0.03, "l2": 0.5}
# Over which a randomized network's accuracy is averaged.
DRAWS = 20
PARTS = ("apgd-ce", "apgd-t", "fab-t", "square", "autoattack")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="runs/autoattack")
    parser.add_argument("--output", default="runs/agreement")
    parser.add_argument("--only", nargs="*", default=MODELS)
    parser.add_argument("--norms", nargs="*", default=list(RADII))
    parser.add_argument("--parts", nargs="*", default=PARTS)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--peer", action="store_true", help="torchattacks")
    parser.add_argument("--table", action="store_true", help="print results")
    parser.add_argument("--flags", action="store_true", help="print flags")
    return parser.parse_args()


def ours(model, x, y, norm, part, options):
    """Our adversarial examples."""
    whole = kr.AutoAttack(
        norm,
        RADII[norm],
        steps=options.steps,
        queries=options.queries,
        seed=0,
        batch_size=250,
    )
    randomized = Classifier.of(model).is_randomized(x)
    parts = whole.parts(10, randomized)
    attack = whole if part == "autoattack" else parts[part]
    return attack(model, x, y, verbose=0)


def theirs(model, x, y, norm, part, options):
    """Those of torchattacks, on NCHW images."""
    import torch
    import torchattacks

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, images):
            return self.inner(images.permute(0, 2, 3, 1), training=False)

    norm_name = {"l2": "L2", "linf": "Linf"}[norm]
    whole = torchattacks.AutoAttack(
        Network().eval(), norm=norm_name, eps=RADII[norm], seed=0
    )
    parts = dict(zip(PARTS, whole._autoattack.attacks, strict=False))
    for name, attack in parts.items():
        if name == "square":
            attack.n_queries = options.queries
        else:
            attack.steps = options.steps
    attack = whole if part == "autoattack" else parts[part]
    images = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    labels = torch.from_numpy(y.astype("int64"))
    results = [
        attack(images[i : i + 250], labels[i : i + 250])
        for i in range(0, len(images), 250)
    ]
    attacked = torch.cat(results).detach().permute(0, 2, 3, 1)
    return np.ascontiguousarray(ops.convert_to_numpy(attacked))


def accuracies(model, x, attacked, y):
    """Share of examples right before, and right before and after.

    Of a randomized model the mean over draws that no attack has seen.
    """
    draws = DRAWS if Classifier.of(model).is_randomized(x) else 1
    right = np.array(
        [
            [
                Classifier.of(model)
                .predict_logits(images, 250, draw=PREDICTION_DRAW + 1000 * draw)
                .argmax(-1)
                == y
                for images in (x, attacked)
            ]
            for draw in range(draws)
        ]
    )
    return float(right[:, 0].mean()), float(right.all(1).mean())


def main():
    """Computes the missing cells, or prints the table."""
    options = arguments()
    folder = pathlib.Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    if options.table:
        return table(folder)
    who = "torchattacks" if options.peer else keras.backend.backend()
    x, y = kr.datasets.load("fashion_mnist").test
    x, y = x[: options.images], y[: options.images]
    for norm in options.norms:
        for name in options.only:
            path = pathlib.Path(options.models) / f"{name}.keras"
            model = keras.saving.load_model(path)
            if options.flags:
                flags(name, model, x, y, norm, options)
                continue
            for part in options.parts:
                cell = folder / f"{norm}-{name}-{part}-{who}.json"
                if cell.exists():
                    continue
                start = time.monotonic()
                make = theirs if options.peer else ours
                attacked = make(model, x, y, norm, part, options)
                seconds = time.monotonic() - start
                clean, robust = accuracies(model, x, attacked, y)
                result = {
                    "clean": 100 * clean,
                    "robust": 100 * robust,
                    "seconds": round(seconds, 1),
                    "images": len(x),
                    "steps": options.steps,
                    "queries": options.queries,
                }
                cell.write_text(json.dumps(result))
                print(cell.stem, result, flush=True)


def flags(name, model, x, y, norm, options):
    """Prints the flags of an evaluation by AutoAttack."""
    attack = kr.AutoAttack(
        norm,
        RADII[norm],
        steps=options.steps,
        queries=options.queries,
        seed=0,
        batch_size=250,
    )
    report = kr.evaluate_robustness(
        model, (x, y), {"autoattack": attack}, verbose=0
    )
    print(name, norm, report.accuracy, report.stages["autoattack"])
    for flag in report.flags:
        print("   ", flag)
    print("    ", len(report.flags), "flags", flush=True)


def table(folder):
    """Markdown of all cells."""
    whos = ("tensorflow", "jax", "torch", "torchattacks")
    print("| norm | model | attack |", " | ".join(whos), "|")
    print("|---|---|---|" + "---|" * len(whos))
    for norm in RADII:
        for name in MODELS:
            for part in PARTS:
                cells = []
                for who in whos:
                    cell = folder / f"{norm}-{name}-{part}-{who}.json"
                    known = cell.exists() and json.loads(cell.read_text())
                    cells.append(f"{known['robust']:.1f}" if known else "")
                if any(cells):
                    row = " | ".join([norm, name, part, *cells])
                    print(f"| {row} |")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
