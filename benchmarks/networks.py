"""Trains the networks that the speed benchmarks attack.

    python benchmarks/networks.py --output runs/networks

Real images through TFDS: CIFAR-10 (ResNet-20, all 50,000 images; the
adversarial one at PGD-L2 0.5) and Fashion-MNIST (a CNN of four layers, 10,000
images, PGD-L2 1.0), 7 steps of epsilon / 5 each, six and twelve epochs.
Finished networks are kept and an interrupted training goes on after its last
epoch. On two cores, with other work beside it, the CIFAR-10 ones took about 10
and 40 minutes.
"""

import argparse
import pathlib

import keras

import keras_robust as kr
from keras_robust.study.training import Training
from keras_robust.study.training import make_optimizer


def cifar10_network():
    """ResNet-20 of width 16."""
    return kr.models.cifar_resnet()


def fashion_network():
    """Four convolutions for 28x28 images."""
    return kr.models.small_cnn((28, 28, 1), filters=(16, 32, 64, 64))


SETTINGS = {
    "cifar10": (cifar10_network, 0.5, None, 6, True),
    "fashion_mnist": (fashion_network, 1.0, 10_000, 12, False),
}


def train(dataset, adversarial, backup):
    """A trained network.

    Args:
        dataset: A key of `SETTINGS`.
        adversarial: Whether to train on attacked images.
        backup: Folder for an interrupted training.
    """
    make, epsilon, images, epochs, flip = SETTINGS[dataset]
    keras.utils.set_random_seed(0)
    (x, y), test = kr.datasets.load(dataset)
    x, y = x[:images], y[:images]
    model = trained = make()
    if adversarial:
        attack = kr.PGDAttack("l2", epsilon, epsilon / 5, steps=7)
        trained = kr.AdversarialModel(model, attack)
    recipe = Training(epochs, 0.1)
    batches = kr.datasets.pipeline(
        x,
        y,
        batch_size=recipe.batch_size,
        shuffle=True,
        augment=True,
        flip=flip,
        drop_remainder=True,
        seed=0,
    )
    trained.compile(
        make_optimizer(recipe, len(batches)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    trained.fit(
        batches,
        epochs=epochs,
        validation_data=tuple(part[:1000] for part in test),
        callbacks=[keras.callbacks.BackupAndRestore(backup)],
        verbose=2,
    )
    return model


def network(folder, dataset, adversarial):
    """A network from the folder, trained if it is not there.

    Args:
        folder: Path of the folder.
        dataset: A key of `SETTINGS`.
        adversarial: Whether it is trained on attacked images.

    Returns:
        Keras model.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = "adversarial" if adversarial else "standard"
    path = folder / f"{dataset}-{kind}.keras"
    if not path.exists():
        print(f"training {path.stem}", flush=True)
        backup = folder / f"{path.stem}-backup"
        train(dataset, adversarial, backup).save(path)
    return keras.saving.load_model(path)


def main():
    """Trains and saves what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default="runs/networks")
    options = parser.parse_args()
    for dataset in ("fashion_mnist", "cifar10"):
        for adversarial in (False, True):
            network(options.output, dataset, adversarial)


if __name__ == "__main__":
    main()
