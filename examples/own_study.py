"""The study on data, a network and an optimizer of your own.

    python examples/own_study.py

writes `report.html`, figures and numbers to `own-study`; after a stop the same
command continues. Replace the images and the network by yours.
"""

import argparse

import keras
import sklearn.datasets
from keras import layers

import keras_robust as kr


def make_model():
    """A new classifier of the images as they are, here 0 to 255."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main():
    """Runs the study and prints its table and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", default="own-study", help="folder")
    options = parser.parse_args()
    digits = sklearn.datasets.load_digits()
    x, y = 255 / 16 * digits.images[..., None], digits.target
    study = kr.Study(
        data=((x[:1400], y[:1400]), (x[1400:], y[1400:])),
        network=make_model,
        training=kr.Training(
            epochs=options.epochs,
            optimizer=lambda steps: keras.optimizers.AdamW(
                keras.optimizers.schedules.CosineDecay(3e-3, steps)
            ),
            augment=layers.RandomTranslation(0.05, 0.05),
        ),
        sets=("D_R", "D_NR", "D_rand"),
    )
    results = study.run(options.output)
    results.to_dataframe().to_csv(f"{options.output}/accuracy.csv")


if __name__ == "__main__":
    main()
