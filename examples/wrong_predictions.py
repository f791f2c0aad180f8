"""Learning from labels that are wrong: Wallace's comment on the paper.

    python examples/wrong_predictions.py

Wallace (Distill 2019, response "Learning from incorrectly labeled data") says
that D_det is one of many sets that teach by wrong labels alone:

- a network is stopped early, only the training images that it gets wrong are
  kept, with its own wrong labels, and a new network that sees nothing else is
  right on many test images;
- a network of one data set labels the images of another, where no label can
  be right, and a new network that sees nothing else can do the first task: here
  handwritten digits from clothes (MNIST from Fashion-MNIST in the original).
"""

import numpy as np
from keras import ops
from small_studies import arguments
from small_studies import load
from small_studies import share
from small_studies import tell
from small_studies import train

import keras_robust as kr

# Epochs of the network whose mistakes are learned from.
EARLY = 2


def mistakes(options):
    """Rows of what is learned from wrong predictions only."""
    (x, y), (x_test, y_test) = load(options)
    first = train(options, x, y, 0, "a network for a short time", EARLY)
    labels = first.predict(x, batch_size=256, verbose=0).argmax(-1)
    wrong = labels != y
    # As many steps as with all images.
    epochs = round(options.epochs * min(len(y) / wrong.sum(), 20))
    network = train(
        options,
        x[wrong],
        labels[wrong],
        1,
        f"on its {wrong.sum()} mistakes",
        epochs,
    )
    return [
        ("the first network", share(first, x_test, y_test), "63.1"),
        ("wrong, of its training images", 100 * wrong.mean(), "37.5"),
        (
            "network of its mistakes only",
            share(network, x_test, y_test),
            "49.7",
        ),
        ("guessing", 100 / (1 + y.max()), "10.0"),
    ]


def across(options):
    """Rows of what is learned about digits from clothes."""
    digits = kr.datasets.load("digits")
    (x, y), (x_test, y_test) = digits
    teacher = train(options, x, y, 2, "digits", 3 * options.epochs)
    clothes = kr.datasets.load("fashion_mnist").train[0][: options.images]
    small = ops.convert_to_numpy(ops.image.resize(clothes, x.shape[1:3]))
    # Where the digits' pixels lie on the average.
    small = small * (x.mean() / small.mean())
    small = np.float32(np.clip(small, 0, 1))
    labels = teacher.predict(small, batch_size=256, verbose=0).argmax(-1)
    pupil = train(options, small, labels, 3, "on clothes that it labels")
    counts = np.bincount(labels, minlength=10) / len(labels)
    return [
        ("teacher, on digits", share(teacher, x_test, y_test), "99.1"),
        (
            "pupil, on digits; it has seen clothes only",
            share(pupil, x_test, y_test),
            "91.0, 94.5",
        ),
        ("commonest label of the clothes", 100 * counts.max(), ""),
    ]


def main():
    """Both studies."""
    options = arguments(__doc__, "wrong-predictions")
    rows = mistakes(options) + across(options)
    tell(options, "Wrong labels that teach", rows)


if __name__ == "__main__":
    main()
