"""How near HopSkipJump comes, beside foolbox's at as many queries.

    pip install foolbox==3.3.4
    python benchmarks/hop_skip_jump.py

A fully connected network of digits for each seed. Both attacks see labels only,
through one function that counts images, in NumPy, where one image costs little.
Both start from the noise that ours draws. foolbox's attack runs for a number of
steps, and what it asks about one image is the limit of ours, the prediction of
the image itself and the draws of noise included. One image at a time: foolbox
divides the gradients of a batch by the norm of them all. Writes
`results/hop-skip-jump.json`; `adaptive_tables.py` prints the table of
docs/black_box.md.
"""

import argparse

import foolbox
import keras
import measure
import numpy as np

import keras_robust as kr
from keras_robust.attacks.norms import distances


class Labels:
    """The labels of a network of dense layers and ReLU; keeps what is asked."""

    def __init__(self, network):
        weights = network.get_weights()
        self.layers = list(zip(weights[::2], weights[1::2], strict=True))
        self.asked = []

    def __call__(self, images):
        """Labels of a NumPy array of images."""
        self.asked.append(images)
        h = images.astype("float32").reshape(len(images), -1)
        for kernel, bias in self.layers[:-1]:
            h = np.maximum(h @ kernel + bias, 0)
        kernel, bias = self.layers[-1]
        return (h @ kernel + bias).argmax(-1)

    @property
    def count(self):
        """How many images were asked about."""
        return sum(map(len, self.asked))


def trained(x, y, seed):
    """A standard network."""
    keras.utils.set_random_seed(seed)
    model = kr.models.mlp(x.shape[1:], widths=(128, 64))
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(x, y, epochs=20, batch_size=64, verbose=0)
    return model


def first_point(asked, classifier, image, label, norm, seed):
    """The noise that our attack starts from."""
    asked.asked.clear()
    attack = kr.HopSkipJumpAttack(norm, queries=60, seed=seed)
    attack(classifier, image, label, verbose=0)
    points = np.concatenate(asked.asked)
    return points[[np.flatnonzero(asked(points) != label)[0]]]


def nearest_by_foolbox(asked, image, label, start, norm, steps):
    """What foolbox finds for one image, and how many images it asks about."""
    asked.asked.clear()
    model = foolbox.models.NumPyModel(
        lambda images: np.eye(10, dtype="float32")[asked(images)], (0, 1)
    )
    attack = foolbox.attacks.HopSkipJumpAttack(steps=steps, constraint=norm)
    found = attack.run(model, image, label, starting_points=start)
    return found.astype("float32"), asked.count


def compare(asked, x, y, rows, norm, steps, seed):
    """Distances and queries of both, image by image."""
    ours = kr.Classifier.from_function(asked, 10, input_shape=(8, 8, 1))
    ours.predict_labels(x[:8])  # Finds out what the function returns.
    np.random.seed(seed)
    found = {"ours": [], "foolbox": [], "queries": [], "foolbox queries": []}
    for row in rows:
        image, label = x[[row]], y[[row]].astype("int64")
        start = first_point(asked, ours, image, label, norm, seed)
        near, queries = nearest_by_foolbox(
            asked, image, label, start, norm, steps
        )
        found["foolbox"].append(float(distances(near, image, norm)[0]))
        found["foolbox queries"].append(queries)
        asked.asked.clear()
        attack = kr.HopSkipJumpAttack(norm, queries=queries - 1, seed=seed)
        result = attack.run(ours, image, label, scored=True, verbose=0)
        found["queries"].append(asked.count)
        distance = float(distances(result["x"], image, norm)[0])
        found["ours"].append(distance if result["success"][0] else np.inf)
    return found


def main():
    """Train, attack, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 16])
    options = parser.parse_args()
    (x, y), (x_test, y_test) = kr.datasets.load("digits")
    results = {**vars(options), "runs": []}
    for seed in range(options.seeds):
        asked = Labels(trained(x, y, seed))
        right = np.flatnonzero(asked(x_test) == y_test)
        rows = right[:: len(right) // options.images][: options.images]
        for norm in ("l2", "linf"):
            for steps in options.steps:
                found = compare(asked, x_test, y_test, rows, norm, steps, seed)
                run = {"norm": norm, "steps": steps, "seed": seed, **found}
                results["runs"].append(run)
                measure.save("hop-skip-jump", results)
                ours, theirs = (
                    np.median(found[name]) for name in ("ours", "foolbox")
                )
                print(
                    f"{norm} {steps} {seed}: {ours:.4f} {theirs:.4f}",
                    np.mean(found["queries"]),
                    np.mean(found["foolbox queries"]),
                    flush=True,
                )


if __name__ == "__main__":
    main()
