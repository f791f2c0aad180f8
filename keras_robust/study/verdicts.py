"""Which claims the numbers of a study show."""

import numpy as np

from keras_robust.study.reference import reference

SHOWN, NOT_SHOWN, NOT_RUN = "shown", "not shown", "not run"


class Run:
    """The numbers of one seed, as claims ask for them.

    Args:
        run: One of `results["runs"]`.
        radii: The recipe's L2 radii.
    """

    def __init__(self, run, radii):
        self.run = run
        self.radii = radii

    def clean(self, model):
        """Accuracy on test images, in per cent, as all that follow."""
        return self._accuracy(model)["clean"]

    def shifted(self, model):
        """Share of test images that are taken for the class y + 1."""
        return self._accuracy(model)["y + 1"]

    def robust(self, model):
        """Accuracy under PGD-L2 of the first radius."""
        return self._accuracy(model)[f"pgd-l2-{self.radii[0]:g}"]

    def robust_linf(self, model):
        """The same in the L-infinity ball of equal volume."""
        found = self._accuracy(model)
        return next(v for k, v in found.items() if k.startswith("pgd-linf-"))

    def measured(self, name):
        """Accuracies that a function of `measures` found."""
        return _per_cent(self.run["measured"][name])

    def _accuracy(self, model):
        return _per_cent(self.run["evaluation"][model]["accuracy"])


def _per_cent(fractions):
    return {name: 100 * value for name, value in fractions.items()}


def verdicts(claims, runs, radii):
    """What becomes of each claim.

    Args:
        claims: Sequence of `Claim`.
        runs: Dictionary of runs by seed: `results["runs"]`.
        radii: The recipe's L2 radii.

    Returns:
        List of dictionaries, one per claim: `name`, `statement`, `rule`,
        `published`, `verdict`, `seeds` in which it holds, and `numbers`:
        `mean` and `deviation` (sample standard deviation, or `None`) by name.
    """
    found = []
    for claim in claims:
        entry = {
            "name": claim.name,
            "statement": claim.statement,
            "rule": claim.rule,
            # The paper's claims are on CIFAR-10, whatever was run here.
            "published": claim.published.format(**reference("cifar10")),
        }
        try:
            rows = [claim.measure(Run(run, radii)) for run in runs.values()]
        except KeyError:
            found.append(
                {**entry, "verdict": NOT_RUN, "seeds": 0, "numbers": {}}
            )
            continue
        held = sum(bool(claim.holds(row)) for row in rows)
        entry["verdict"] = SHOWN if held == len(rows) else NOT_SHOWN
        entry["seeds"] = held
        entry["numbers"] = {
            name: mean_and_deviation([row[name] for row in rows])
            for name in rows[0]
        }
        found.append(entry)
    return found


def mean_and_deviation(values):
    """Over seeds; `None` for what is not a number.

    Args:
        values: Sequence of numbers, NaN for what did not happen.

    Returns:
        Dictionary of `mean` and `deviation`, sample standard deviation.
    """
    values = np.array(values, float)
    mean = float(values.mean())
    if not np.isfinite(mean):
        return {"mean": None, "deviation": None}
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean": mean, "deviation": spread}
