"""Why D_det may teach its labels: the reversal, where the answer is known.

    python examples/planted_reversal.py

A network that is trained on D_det should take test images for y, by the
non-robust features that perturbations carry; often it takes them for y + 1, by
the robust features that stay and go with the wrong label. In images with
planted features (`planted_features`) both are known, and so is the radius from
which a perturbation can replace a non-robust template by another one: sqrt(2)
times its norm. Accuracy on y and on y + 1 by the radius of the perturbations.
"""

import argparse
from dataclasses import replace

from small_studies import tell

from keras_robust.study import Replication
from keras_robust.study import get_recipe


def main():
    """Trains on a D_det of every radius."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--radii", type=float, nargs="+", default=[0.2, 0.25, 0.3, 0.4, 0.5]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", type=int, default=1, choices=(0, 1))
    parser.add_argument("--output", default="planted-reversal", help="folder")
    options = parser.parse_args()
    options.dataset = "planted"
    recipe = replace(get_recipe("planted"), linf_radii=())
    rows = []
    for radius in options.radii:
        study = Replication(
            replace(recipe, relabel_epsilon=radius),
            f"{options.output}/stages",
            options.seed,
            options.verbose,
        )
        found = study.evaluate("D_det")["accuracy"]
        success = study.generated("D_det")["success"].mean()
        reached = f"radius {radius:g} ({success:.0%} reach y + 1)"
        rows += [
            (f"{reached}: taken for y", 100 * found["clean"], ""),
            (f"{reached}: taken for y + 1", 100 * found["y + 1"], ""),
        ]
    tell(options, "D_det by radius", rows)


if __name__ == "__main__":
    main()
