"""What the short studies of the Distill discussion share."""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_robust as kr
from keras_robust.cli.arguments import DATASETS
from keras_robust.cli.arguments import PRESETS
from keras_robust.study import Replication
from keras_robust.study import get_recipe
from keras_robust.study.replication.store import StageBusyError
from keras_robust.study.training import make_schedule
from keras_robust.utils.environment import machine
from keras_robust.utils.files import write_atomically
from keras_robust.utils.files import write_json

# L2 radius of a perturbation that a network of the data set cannot stand.
EPSILON = {"digits": 1.5, "fashion_mnist": 1.0, "cifar10": 0.5}


def arguments(doc, output, images=5000, epochs=10):
    """Reads the command line.

    Args:
        doc: The script's docstring.
        output: Default folder.
        images: Default number of training images.
        epochs: Default number of epochs.

    Returns:
        `argparse.Namespace`.
    """
    parser = argparse.ArgumentParser(
        description=doc.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--dataset", default="fashion_mnist", choices=EPSILON)
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", type=int, default=1, choices=(0, 1))
    parser.add_argument("--output", default=output, help="folder")
    return parser.parse_args()


def study_parser(doc):
    """A parser for what looks into a replication.

    Args:
        doc: The script's docstring.

    Returns:
        `argparse.ArgumentParser`, to which more arguments may be added.
    """
    parser = argparse.ArgumentParser(
        description=doc.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--dataset", default="fashion_mnist", choices=DATASETS)
    parser.add_argument("--preset", choices=PRESETS, help="how it is made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", type=int, default=1, choices=(0, 1))
    parser.add_argument(
        "--output", default="replication", help="folder, of a replication"
    )
    return parser


def study_of(options):
    """The replication that the arguments of `study_parser` mean."""
    return Replication(
        get_recipe(options.dataset, options.preset),
        Path(options.output) / "stages",
        options.seed,
        options.verbose,
    )


def load(options):
    """`(x, y)` to train on, as many as were asked for, and to test on."""
    (x, y), test = kr.datasets.load(options.dataset)
    return (x[: options.images], y[: options.images]), test


def train(options, x, y, seed, what, epochs=None):
    """A small network, trained by SGD with a one-cycle learning rate.

    Args:
        options: What `arguments` returns.
        x: Images.
        y: Labels.
        seed: Int, added to that of the command line.
        what: What is said of it.
        epochs: Int, if not those of the command line.

    Returns:
        The network.
    """
    if options.verbose:
        print(f"training {what} ...", flush=True)
    epochs = epochs or options.epochs
    keras.utils.set_random_seed(1000 * options.seed + seed)
    model = kr.models.small_cnn(x.shape[1:], filters=(16, 32, 64, 128))
    steps = epochs * -(-len(x) // 64)
    model.compile(
        keras.optimizers.SGD(make_schedule("one_cycle", 0.1, steps), 0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x,
        y,
        batch_size=64,
        epochs=epochs,
        verbose=2 if options.verbose else 0,
    )
    return model


def share(model, x, labels):
    """Per cent of images that a network takes for what the labels say."""
    found = model.predict(x, batch_size=256, verbose=0).argmax(-1)
    return 100 * float((found == labels).mean())


def tell(options, title, rows):
    """Prints figures beside published ones, and writes them.

    Args:
        options: What `arguments` returns.
        title: What the table is of.
        rows: List of `(what, ours, published)`; per cent, and a string.
    """
    table = Table(title=f"{title}: {options.dataset}, in %")
    table.add_column("what")
    for heading in ("here", "published"):
        table.add_column(heading, justify="right")
    for what, ours, published in rows:
        table.add_row(what, f"{ours:.1f}", published)
    Console().print(table)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "title": title,
        # Where it lies says nothing of what it is.
        **{k: v for k, v in vars(options).items() if k != "output"},
        "backend": keras.backend.backend(),
        "machine": machine(),
        "rows": [
            dict(zip(("what", "here", "published"), row, strict=True))
            for row in rows
        ],
    }
    text = json.dumps(results, indent=2) + "\n"
    (folder / "figures.json").write_text(text, encoding="utf-8")


def held_out_parser(doc, output, seeds):
    """A parser for what is judged by training images that are left out.

    Args:
        doc: The script's docstring.
        output: Default folder.
        seeds: Default number of seeds.

    Returns:
        `argparse.ArgumentParser`, to which more arguments may be added.
    """
    parser = argparse.ArgumentParser(
        description=doc.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--images", type=int, default=15_000, help="to train on"
    )
    parser.add_argument(
        "--held-out", type=int, default=5_000, help="images that judge"
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument(
        "--widths", type=int, nargs=3, default=(32, 64, 128), help="channels"
    )
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--verbose", type=int, default=1, choices=(0, 1))
    parser.add_argument("--output", default=output, help="folder")
    return parser


def write_results(options, found, lines):
    """Write `results.json` and `table.md`, and print the table.

    Each appears as a whole: several processes may share a folder.

    Args:
        options: The command line, with `output` and `verbose`.
        found: Dictionary of what was found.
        lines: Those of the table, as Markdown.
    """
    folder = Path(options.output)
    results = {
        **{k: v for k, v in vars(options).items() if k != "output"},
        "backend": keras.backend.backend(),
        "machine": machine(),
        **found,
    }
    write_json(folder / "results.json", results)
    text = "\n".join(lines) + "\n"
    write_atomically(
        folder / "table.md",
        lambda part: part.write_text(text, encoding="utf-8"),
    )
    if options.verbose:
        print(text)


def percent(shares):
    """Mean and standard deviation of shares, in per cent, as text."""
    values = 100 * np.array(shares)
    if len(values) == 0:
        return ""
    spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def in_turn(jobs, take):
    """Take all jobs; those that another process is at come later.

    Args:
        jobs: List of whatever `take` takes.
        take: Callable of a job, which raises `StageBusyError` where another
            process makes what it needs.

    Yields:
        Pairs of a job and what `take` has returned.
    """
    left = list(jobs)
    while left:
        for job in left:
            try:
                found = take(job)
            except StageBusyError:
                continue
            left.remove(job)
            yield job, found
            break
        else:
            time.sleep(1)
