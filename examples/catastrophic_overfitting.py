"""One-step adversarial training that collapses, and one that does not.

    python examples/catastrophic_overfitting.py --output overfitting
    python examples/catastrophic_overfitting.py --network whitened \
        --only N-FGSM --output overfitting-whitened

Trains the same network on CIFAR-10 with one-step attacks of the same radius,
8/255 in L-infinity, and the same cost: FGSM from the image, FGSM from a random
point of the ball (steps of 1.25 radii, Wong et al. 2020, arXiv:2001.03994), and
N-FGSM (de Jorge et al. 2022, arXiv:2202.01181). The network is one convolution
with four filters and a dense layer, the smallest in which Andriushchenko &
Flammarion 2020 (arXiv:2007.02617, section 4) see the collapse. `--network
whitened` and `unwhitened` are the airbench network of widths 32, 64, 128 with a
first layer that whitens patches, and with a trained one in its place.

After each epoch `CatastrophicOverfitting` measures the accuracy under ten steps
of PGD on training images that are held out; what is reported at the end is
measured on test images. With FGSM this falls to zero while the accuracy
under the training attack rises: the network has learned to bend its loss where
that attack looks. In the last training the callback notices it, stops and
restores the best epoch. Writes `figures.json`, `table.md` and `curves.png`.
"""

import argparse
import json
from pathlib import Path

import keras
import matplotlib.figure

import keras_robust as kr
from keras_robust.utils.environment import machine

HELD_OUT = 500
WIDTHS = (32, 64, 128)


def attacks(epsilon, seed):
    """One-step attacks by name."""
    return {
        "FGSM": kr.FGSMAttack("linf", epsilon),
        "FGSM from a random point": kr.PGDAttack(
            "linf",
            epsilon,
            step_size=1.25 * epsilon,
            steps=1,
            random_start=True,
            seed=seed,
        ),
        "N-FGSM": kr.NFGSMAttack("linf", epsilon, seed=seed),
    }


def network(x, options):
    """An untrained network of `--network`."""
    if options.network == "one-convolution":
        return one_convolution(x, options.filters)
    model = kr.models.airbench(WIDTHS, whitening=options.network == "whitened")
    kr.models.adapt_whitening(model, x)
    return model


def one_convolution(x, filters):
    """A convolution and a dense layer, on standardized images."""
    normalization = keras.layers.Normalization()
    normalization.adapt(x)
    return keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            normalization,
            keras.layers.Conv2D(filters, 3, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def train(attack, action, options):
    """One training.

    Returns:
        Lists by name, one number per epoch: `trained`, accuracy on what the
        network was trained on, and `pgd`, on held-out images; numbers for the
        weights at the end: `clean` and `robust`.
    """
    keras.utils.set_random_seed(options.seed)
    (x, y), (x_test, y_test) = kr.datasets.load(options.dataset)
    held_out = x[-HELD_OUT:], y[-HELD_OUT:]
    x, y = x[:-HELD_OUT][: options.images], y[:-HELD_OUT][: options.images]
    model = network(x, options)
    robust = kr.AdversarialModel(model, attack)
    robust.compile(
        keras.optimizers.Adam(options.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    watch = kr.callbacks.CatastrophicOverfitting(*held_out, action=action)
    history = robust.fit(
        x,
        y,
        epochs=options.epochs,
        batch_size=128,
        callbacks=[watch],
        verbose=options.verbose,
    ).history
    report = kr.evaluate_robustness(
        model,
        (x_test[:HELD_OUT], y_test[:HELD_OUT]),
        "apgd",
        norm="linf",
        epsilon=options.epsilon,
        verbose=0,
    )
    return {
        "trained": history["accuracy"],
        "pgd": history["pgd_accuracy"],
        "clean": report.accuracy["clean"],
        "robust": report.accuracy["apgd"],
        "collapsed_epoch": watch.collapsed_epoch,
        "best_epoch": watch.best_epoch,
    }


def table(found, options):
    """The trainings as Markdown."""
    lines = [
        f"{options.dataset}, L-infinity {options.epsilon:.4g}, "
        f"{options.images} images, {options.epochs} epochs, network "
        f"{options.network}; PGD on {HELD_OUT} training images that are held "
        f"out, the accuracies at the end on {HELD_OUT} test images, % (epochs "
        "count from 0).",
        "",
        "| training | best PGD | last PGD | under the training attack | clean "
        "at the end | APGD at the end | collapse |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        epoch = one["collapsed_epoch"]
        numbers = (
            max(one["pgd"]),
            one["pgd"][-1],
            one["trained"][-1],
            one["clean"],
            one["robust"],
        )
        cells = " | ".join(f"{100 * number:.1f}" for number in numbers)
        noticed = "no" if epoch is None else f"epoch {epoch}"
        lines.append(f"| {name} | {cells} | {noticed} |")
    return "\n".join(lines) + "\n"


def picture(found, path):
    """Curves of all trainings beside each other."""
    figure = matplotlib.figure.Figure(
        (max(3 * len(found), 5), 3.3), layout="constrained"
    )
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for ax, (name, curves) in zip(axes, found.items(), strict=True):
        ax.plot(curves["trained"], label="under the training attack")
        ax.plot(curves["pgd"], label="held out, under PGD")
        ax.set(title=name, xlabel="epoch", ylim=(0, None))
    axes[0].set_ylabel("accuracy")
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=2)
    figure.savefig(path)


def main():
    """All attacks, a table, a picture."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=0.003)
    parser.add_argument(
        "--network",
        default="one-convolution",
        choices=("one-convolution", "whitened", "unwhitened"),
    )
    parser.add_argument(
        "--filters", type=int, default=4, help="of the one convolution"
    )
    parser.add_argument("--only", nargs="+", metavar="TRAINING")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("overfitting"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    own = attacks(options.epsilon, options.seed)
    trainings = {name: (attack, "warn") for name, attack in own.items()}
    trainings["FGSM, restored"] = own["FGSM"], "restore"
    unknown = set(options.only or ()) - set(trainings)
    if unknown:
        parser.error(
            f"--only must be among {', '.join(trainings)}. "
            f"Received: {', '.join(unknown)}"
        )
    trainings = {name: trainings[name] for name in options.only or trainings}
    found = {}
    for name, (attack, action) in trainings.items():
        found[name] = train(attack, action, options)
        settings = {**vars(options), "output": str(options.output)}
        results = {
            "machine": machine(),
            "options": settings,
            "trainings": found,
        }
        text = json.dumps(results, indent=1)
        (options.output / "figures.json").write_text(text + "\n")
        print(name, found[name]["pgd"], flush=True)
    text = table(found, options)
    (options.output / "table.md").write_text(text)
    picture(found, options.output / "curves.png")
    print(text)


if __name__ == "__main__":
    main()
