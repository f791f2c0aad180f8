"""Which units of a network are useful, and which robustly so.

    python examples/useful_units.py

Section 2 of Ilyas et al. 2019 defines usefulness (rho) and robust usefulness
(gamma) of a feature. Measured here for units of the representation of a
standard and of an adversarially trained network, with what a linear classifier
tells from each part of them, clean and attacked, and how far the whole
representation moves under attack, as a share of the distance of two images.

Models are those of `keras-robust replicate`; with the same `--output` they are
found there. Writes `units-standard.png`, `units-adversarial.png` and
`figures.json`.
"""

from pathlib import Path

import numpy as np
from small_studies import study_of
from small_studies import study_parser
from small_studies import tell

import keras_robust as kr
from keras_robust.features import feature_usefulness
from keras_robust.features import layer_robustness
from keras_robust.features import linear_probes


def main():
    """Measures both networks."""
    parser = study_parser(__doc__)
    parser.add_argument("--units", type=int, default=64, help="the first ones")
    parser.add_argument("--images", type=int, default=200, help="of the test")
    options = parser.parse_args()
    study = study_of(options)
    attack = kr.PGDAttack(epsilon=study.recipe.radii[0], steps=10)
    train = study.data.train
    test = tuple(part[: options.images] for part in study.data.test)
    rows = []
    for name in ("standard", "adversarial"):
        model = study.model(name)
        width = model.get_layer("representation").output.shape[-1]
        found = feature_usefulness(
            model,
            test,
            attack=attack,
            units=np.arange(min(options.units, width)),
            verbose=options.verbose,
        )
        found.plot(Path(options.output) / f"units-{name}.png")
        probes = linear_probes(
            model,
            train,
            test,
            usefulness=found,
            attacks={"pgd": attack},
            verbose=options.verbose,
        )
        for part, numbers in probes.items():
            share = 100 * numbers["units"] / len(found.units)
            rows.append((f"{name}: {part}, share of units", share, ""))
            for kind in ("clean", "pgd"):
                if kind in numbers:
                    what = f"{name}: {part}, probe, {kind}"
                    rows.append((what, 100 * numbers[kind], ""))
        moved = layer_robustness(model, test, attack, verbose=options.verbose)
        rows.append((f"{name}: representation moves by", 100 * moved, ""))
    tell(options, f"Useful units, L2 {attack.epsilon:g}", rows)


if __name__ == "__main__":
    main()
