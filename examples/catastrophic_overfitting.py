"""One-step adversarial training that collapses, and one that does not.

    python examples/catastrophic_overfitting.py --output overfitting

Trains the same small network on handwritten digits three times, on one-step
attacks of the same radius and cost: FGSM from the image, FGSM from a random
point of the ball (steps of 1.25 radii, Wong et al. 2020), and N-FGSM (de Jorge
et al. 2022). After each epoch it measures the accuracy on held-out images
under ten steps of PGD. With FGSM this falls while the accuracy under the
training attack rises: the network has learned to bend its loss where that
attack looks. Writes `figures.json` and `curves.png`.
"""

import argparse
import json
from pathlib import Path

import keras
import matplotlib.figure
import numpy as np

import keras_robust as kr

HELD_OUT = 200


def attacks(epsilon):
    """One-step attacks by name."""
    return {
        "FGSM": kr.FGSMAttack("linf", epsilon),
        "FGSM from a random point": kr.PGDAttack(
            "linf",
            epsilon,
            step_size=1.25 * epsilon,
            steps=1,
            random_start=True,
            seed=0,
        ),
        "N-FGSM": kr.NFGSMAttack("linf", epsilon, seed=0),
    }


def train(attack, options):
    """One training.

    Returns:
        Lists by name, one number per epoch: `trained`, accuracy on what the
        network was trained on, `clean` and `pgd`, on held-out images.
    """
    keras.utils.set_random_seed(options.seed)
    (x, y), (x_test, y_test) = kr.datasets.load(options.dataset)
    x, y = x[: options.images], y[: options.images]
    held_out = x_test[:HELD_OUT], y_test[:HELD_OUT]
    model = kr.models.small_cnn(x.shape[1:], filters=options.filters)
    robust = kr.AdversarialModel(model, attack)
    robust.compile(
        keras.optimizers.SGD(options.learning_rate, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    watch = kr.callbacks.CatastrophicOverfitting(*held_out)
    history = robust.fit(
        x,
        y,
        epochs=options.epochs,
        batch_size=64,
        callbacks=[watch],
        verbose=options.verbose,
    ).history
    clean = model.predict(held_out[0], verbose=0).argmax(-1) == held_out[1]
    return {
        "trained": history["accuracy"],
        "pgd": history["pgd_accuracy"],
        "clean": float(np.mean(clean)),
        "collapsed_epoch": watch.collapsed_epoch,
    }


def picture(found, path):
    """Curves of all trainings beside each other."""
    figure = matplotlib.figure.Figure((4 * len(found), 3), layout="constrained")
    axes = figure.subplots(1, len(found), sharey=True)
    for ax, (name, curves) in zip(axes, found.items(), strict=True):
        ax.plot(curves["trained"], label="under the training attack")
        ax.plot(curves["pgd"], label="held out, under PGD")
        ax.set(title=name, xlabel="epoch", ylim=(0, 1))
    axes[0].set_ylabel("accuracy")
    axes[0].legend()
    figure.savefig(path)


def main():
    """All attacks, a table, a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=1297)
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--filters", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("overfitting"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    found = {}
    print(f"{'':26} best PGD  last PGD  trained  clean  collapsed")
    for name, attack in attacks(options.epsilon).items():
        found[name] = curves = train(attack, options)
        best, last = max(curves["pgd"]), curves["pgd"][-1]
        print(
            f"{name:26} {best:8.1%}  {last:8.1%}  {curves['trained'][-1]:7.1%}"
            f"  {curves['clean']:5.1%}  epoch {curves['collapsed_epoch']}",
            flush=True,
        )
    figures = {"epsilon": options.epsilon, "trainings": found}
    text = json.dumps(figures, indent=1)
    (options.output / "figures.json").write_text(text + "\n")
    picture(found, options.output / "curves.png")


if __name__ == "__main__":
    main()
