"""Does the identity gradient of the last ReLU help the inversion here?

    python benchmarks/fake_relu.py

Trains the digits recipe's standard and adversarial network for each seed,
inverts their representations of 400 training images with and without
`fake_relu`, and prints the mean distance of representations that is left, as
a share of that at the start (mean and standard deviation over seeds),
and the share of units that are dead on the start images while the target has
them on. Result: see
docs/performance.md.
"""

import argparse

import numpy as np

import keras_robust as kr


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", default="runs/fake_relu")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 200])
    options = parser.parse_args()
    recipe = kr.study.get_recipe("digits")
    left = {}
    for seed in range(options.seeds):
        study = kr.study.Replication(recipe, options.output, seed)
        x = study.data.train[0][:400]
        for source in ("standard", "adversarial"):
            model = study.model(source)
            for steps in options.steps:
                for fake in (False, True):
                    transform = kr.Robustifier(
                        model, steps=steps, fake_relu=fake, seed=seed
                    )
                    _, told = transform(x, return_details=True)
                    # Means first: an image may have drawn itself as start.
                    after = told["distance_after"].mean()
                    share = after / told["distance_before"].mean()
                    left.setdefault((source, steps, fake), []).append(share)
            start = x[kr.Robustifier(model, seed=seed).draw_index(len(x))]
            view = kr.models.representation_view(model)
            off = view.predict(start, verbose=0) == 0
            wanted = view.predict(x, verbose=0) > 0
            left.setdefault((source, "dead"), []).append(
                (off & wanted).sum() / wanted.sum()
            )
    for key, values in left.items():
        spread = np.std(values, ddof=1) if len(values) > 1 else 0
        print(*key, f"{np.mean(values):.4f} +- {spread:.4f}")


if __name__ == "__main__":
    main()
