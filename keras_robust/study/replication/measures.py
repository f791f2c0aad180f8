"""What a replication measures besides the accuracy of each model."""

import math
import shutil
from collections.abc import Sequence

import keras
import numpy as np

from keras_robust.attacks.auto_attack import AutoAttack
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.evaluation import evaluate_robustness
from keras_robust.evaluation import transfer_matrix
from keras_robust.evaluation.evaluate import predict_labels
from keras_robust.study.data import some_rows
from keras_robust.study.replication.replication import Replication
from keras_robust.study.replication.results import Table
from keras_robust.study.replication.results import Transfer
from keras_robust.study.replication.settings import images_at_once
from keras_robust.study.replication.settings import known
from keras_robust.study.replication.settings import known_radii
from keras_robust.study.replication.settings import network_name
from keras_robust.study.replication.training_sets import RELABELLED
from keras_robust.training import AdversarialModel

# Test images that are perturbed for the measure of transfer.
TRANSFER_IMAGES = 500
# Images of each generated set whose nearest training images are found.
NEAREST_IMAGES = 1000
NEAREST_OF = ("D_R", "D_NR", "D_rand", "D_rand_robust", "D_det_robust")
_LEAKAGE_EPOCHS = 10


def decomposition(study: Replication) -> Table:
    """Robust accuracy of the D_R model on D_R, on D_R of test images, on test.

    Ilyas et al. 2019, appendix D.3, Table 8: what is lost between training
    and test images is generalization, what is lost between D_R of the test
    images and the test images is the distance between the two kinds.

    Args:
        study: A `Replication`.

    Returns:
        Dictionary by L2 radius, as text, of accuracies: `D_R train`,
        `D_R test`, `test`.
    """
    made = study.generated("D_R")
    x, y = study.data.test
    transform = study.transform("D_R", study.model("adversarial"))
    rows = some_rows(study.recipe.read(), len(made["y"]), len(x))
    kinds = {
        "D_R train": (made["x"][rows], made["y"][rows]),
        "D_R test": (transform(x, verbose=study.verbose), y),
        "test": (x, y),
    }
    recipe = study.recipe
    size = images_at_once(math.prod(x.shape[1:]))
    attacks = {
        f"{radius:g}": PGDAttack(
            epsilon=radius,
            steps=recipe.evaluation_steps,
            batch_size=size,
        )
        for radius in known_radii(recipe)
    }
    network = study.shared_network("D_R")
    found: Table = {radius: {} for radius in attacks}
    for kind, data in kinds.items():
        report = evaluate_robustness(
            network,
            data,
            attacks=attacks,
            batch_size=size,
            verbose=study.verbose,
            probe=False,
        )
        for radius in attacks:
            found[radius][kind] = report.accuracy[radius]
    return found


def leakage(
    study: Replication, sets: Sequence[str] = RELABELLED
) -> dict[str, float]:
    """Accuracy on test images from robust linear features of relabelled sets.

    Goh 2019 (comment on Ilyas et al. 2019, "Robust feature leakage"): the ten
    outputs of a linear classifier that was trained against an L2 attack are
    robust features. What a linear model of them learns from D_rand is no
    evidence for non-robust ones; from D_det it learns less than nothing.

    Args:
        study: A `Replication`.
        sets: Names of relabelled sets.

    Returns:
        Dictionary of accuracies by set, with `robust linear`, that of the
        linear classifier itself on the true labels, and `chance`.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = study.data.train
    x_test, y_test = study.data.test
    keras.utils.set_random_seed(study.seed_of("leakage"))
    linear = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(len(study.data.class_names)),
        ]
    )
    attack = PGDAttack(epsilon=known(study.recipe.leakage_epsilon), steps=7)
    robust = AdversarialModel(linear, attack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile(keras.optimizers.Adam(1e-3), loss)
    robust.fit(
        x,
        y,
        batch_size=128,
        epochs=_LEAKAGE_EPOCHS,
        verbose=2 if study.verbose else 0,
    )
    accuracy = (predict_labels(linear, x_test) == y_test).mean()
    found = {
        "robust linear": float(accuracy),
        "chance": 1 / len(study.data.class_names),
    }
    for name in sets:
        made = study.generated(name)
        features = linear.predict(made["x"], verbose=0)
        probe = LogisticRegression(max_iter=1000).fit(features, made["y"])
        labels = probe.predict(linear.predict(x_test, verbose=0))
        found[name] = float((labels == y_test).mean())
    return found


def transfer(study: Replication) -> Transfer:
    """Transfer between architectures, and what each learns from D_det.

    Ilyas et al. 2019, section 3.3, Fig. 3: networks that learn more from the
    perturbations made for a source are fooled more often by them.

    Args:
        study: A `Replication` whose recipe has `architectures`.

    Returns:
        Dictionary: `sources` and `names`; `untargeted` and `targeted`, rates
        from each source to each of `names`; `D_det`, accuracy of these when
        trained on D_det; `correlation` between that and the rates from the
        first source, which D_det was made with (`None` where one of them does
        not vary).
    """
    recipe = study.recipe
    own = network_name(recipe)
    x, y = study.data.test
    networks, accuracy = {}, {}
    # Else the two are of different architectures.
    if recipe.network_of("standard") == recipe.network_of("D_det"):
        networks[own] = study.model("standard")
        accuracy[own] = study.evaluate("D_det")["accuracy"]["clean"]
    for name in recipe.architectures:
        networks[name] = study.architecture("standard", name)
        right = predict_labels(study.architecture("D_det", name), x) == y
        accuracy[name] = float(right.mean())
    sources, first = networks, recipe.source_of("D_det")
    if first is not None and (first != "standard" or own not in networks):
        sources = {f"{first} model": study.model(first), **networks}
    some = x[:TRANSFER_IMAGES], y[:TRANSFER_IMAGES]
    size = images_at_once(math.prod(x.shape[1:]))
    attack = PGDAttack(
        epsilon=known(recipe.relabel_epsilon),
        steps=recipe.evaluation_steps,
        batch_size=size,
        seed=study.seed,
    )
    matrix = transfer_matrix(
        sources, networks, some, attack, verbose=study.verbose
    )
    found = matrix.numbers()
    return {
        "sources": found["sources"],
        "names": found["targets"],
        "untargeted": found["untargeted"],
        "targeted": found["targeted"],
        "D_det": accuracy,
        "correlation": {
            kind: _correlation(list(accuracy.values()), found[kind][0])
            for kind in ("untargeted", "targeted")
        },
    }


def autoattack(study: Replication) -> Table:
    """Accuracy of the robust models under AutoAttack, the standard suite.

    Croce & Hein 2020 (arXiv:2003.01690). PGD with few steps may overstate what
    adversarial training gives; models that nothing was done for have no
    accuracy left to lose.

    Args:
        study: A `Replication`.

    Returns:
        Dictionary by model, `adversarial` and `D_R`, of accuracies by L2
        radius, as text, with that on the same images, `clean`.
    """
    count = study.recipe.autoattack_images
    radii = known_radii(study.recipe)
    x, y = study.data.test
    size = images_at_once(math.prod(x.shape[1:]))
    state = study.store.path("state-autoattack", study.description())
    found: Table = {}
    for name in ("adversarial", "D_R"):
        if name not in study.recipe.models:
            continue
        attacks = {
            f"{radius:g}": AutoAttack(
                norm="l2",
                epsilon=radius,
                batch_size=size,
                seed=study.seed,
            )
            for radius in (min(radii), max(radii))
        }
        report = evaluate_robustness(
            study.shared_network(name),
            (x[:count], y[:count]),
            attacks=attacks,
            batch_size=size,
            state_path=state / name,
            verbose=study.verbose,
            probe=False,
        )
        found[name] = {"clean": report.accuracy["clean"]} | {
            radius: report.accuracy[radius] for radius in attacks
        }
    shutil.rmtree(state, ignore_errors=True)
    return found


def nearest(study: Replication, sets: Sequence[str] = NEAREST_OF) -> Table:
    """What the training image nearest to a generated one is.

    On small images a set can turn an image into another one: then its label is
    what the image shows, and nothing is learned from features that one does
    not see. Nearest in L2, of `NEAREST_IMAGES` images of each set.

    Args:
        study: A `Replication`.
        sets: Names of generated sets.

    Returns:
        Dictionary by set: `original`, the share of images whose nearest
        training image is the one that they were made of, `label`, the share
        where it has the label of the set; and of those with a label that is
        not the true one, `other has the label`, the share where the nearest
        other training image has it (sets with such labels only).
    """
    x, y = study.data.train
    flat = x.reshape(len(x), -1)
    rows = some_rows(study.recipe.read(), len(x), NEAREST_IMAGES)
    places = np.arange(len(rows))
    found: Table = {}
    for name in sets:
        made = study.generated(name)
        labels = made["y"][rows]
        images = made["x"][rows].reshape(len(labels), -1)
        squared = squared_distances(images, flat)
        first = squared.argmin(1)
        found[name] = {
            "original": float((first == rows).mean()),
            "label": float((y[first] == labels).mean()),
        }
        wrong = labels != y[rows]
        if wrong.any():
            squared[places, rows] = np.inf
            same = y[squared.argmin(1)] == labels
            found[name]["other has the label"] = float(same[wrong].mean())
    return found


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared L2 distances of all rows of one array to all of another.

    Args:
        first: Array `(N, D)`.
        second: Array `(M, D)`.

    Returns:
        Array `(N, M)`.
    """
    products = first @ second.T
    norms = [(part**2).sum(-1) for part in (first, second)]
    found: np.ndarray = norms[0][:, None] + norms[1] - 2 * products
    return found


def _correlation(
    first: Sequence[float], second: Sequence[float | None]
) -> float | None:
    """Pearson's correlation; `None` where it is undefined."""
    pairs = np.array([first, second], float)
    if not np.isfinite(pairs).all() or (np.ptp(pairs, axis=1) == 0).any():
        return None
    return float(np.corrcoef(pairs)[0, 1])
