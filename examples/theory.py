"""Section 4 of Ilyas et al. 2019: what robust learning does to Gaussians.

    python examples/theory.py --output theory

draws, in seconds,

- `gaussians.png`, the paper's Fig. 4: the true covariance, the one that robust
  maximum likelihood learns for growing budgets, and the direction in which the
  classifier's gradient points;
- `bounds.png`: the multiplier of Theorem 2 between its bounds, and how the
  relaxed game comes closer to the exact one with the dimension;

and prints the accuracies of the rules, clean and attacked.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from keras_robust import theory

# Two features that are alike useful; the second one is easily moved.
MEAN, DIAGONAL = np.array([1.0, 0.5]), np.array([1.0, 0.05])
BUDGETS = (0.0, 0.5, 1.0, 2.0)


def main():
    """Draws and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", default="theory", help="folder")
    folder = Path(parser.parse_args().output)
    folder.mkdir(parents=True, exist_ok=True)

    # What is learned, and what the rule of it is worth on the true data.
    model = theory.GaussianModel(MEAN, DIAGONAL)
    learned = {0.0: DIAGONAL}
    for budget in BUDGETS[1:]:
        learned[budget] = theory.robust_fit(DIAGONAL, budget).covariance
    print("budget  clean  attacked (L2 1)  least cosine of the gradient")
    for budget, covariance in learned.items():
        weights = MEAN / covariance
        print(
            f"{budget:6g}  {model.accuracy(weights=weights):.4f}"
            f"  {model.accuracy(1.0, weights=weights):.4f}"
            f"           {theory.minimal_cosine(covariance):.3f}"
        )
    draw_gaussians(model, learned).savefig(folder / "gaussians.png", dpi=150)
    draw_bounds().savefig(folder / "bounds.png", dpi=150)
    print(f"Figures: {folder}/")


def draw_gaussians(model, learned):
    """A panel per budget: samples, what is learned, the gradient."""
    x, y = model.sample(300, seed=0)
    figure = Figure(figsize=(3 * len(learned), 3.2))
    panels = figure.subplots(1, len(learned), sharey=True)
    for axes, (budget, covariance) in zip(panels, learned.items(), strict=True):
        for label, color in ((-1, "#4477aa"), (1, "#ee6677")):
            axes.plot(*x[y == label].T, ".", ms=2, color=color, alpha=0.5)
            axes.add_patch(
                Ellipse(
                    label * MEAN,
                    *(4 * np.sqrt(covariance)),
                    fill=False,
                    color=color,
                )
            )
        # From one class to the other: the means, and the rule's gradient.
        gradient = MEAN / covariance
        gradient *= np.linalg.norm(MEAN) / np.linalg.norm(gradient)
        for arrow, style, name in (
            (MEAN, "dashed", "mean"),
            (gradient, "solid", "gradient"),
        ):
            axes.annotate(
                "",
                1.5 * arrow,
                (0, 0),
                arrowprops={"arrowstyle": "->", "linestyle": style},
            )
            axes.text(*(1.6 * arrow), name, fontsize=8)
        axes.set_title("standard" if not budget else f"robust, {budget:g}")
        axes.set_xlim(-4, 4)
        axes.set_ylim(-3.2, 3.2)
        axes.set_aspect("equal")
    figure.tight_layout()
    return figure


def draw_bounds():
    """The multiplier between its bounds; the relaxed against the exact game."""
    figure = Figure(figsize=(8, 3.2))
    left, right = figure.subplots(1, 2)
    diagonal = np.array([0.5, 1.0, 2.0, 4.0])
    budgets = np.geomspace(0.05, 20, 40)
    exact = [theory.robust_fit(diagonal, e).multiplier for e in budgets]
    bounds = [theory.multiplier_bounds(diagonal, e) for e in budgets]
    left.loglog(budgets, exact, color="#4477aa", label="multiplier")
    left.fill_between(
        budgets, *np.array(bounds).T, alpha=0.2, color="#4477aa", label="bounds"
    )
    left.set_xlabel("epsilon")
    left.legend(frameon=False)
    dimensions, differences = (2, 4, 8, 16, 32, 64, 128), []
    for d in dimensions:
        s, epsilon = np.tile([0.5, 2.0], d // 2), 0.5 * np.sqrt(d)
        game = theory.exact_robust_fit(s, epsilon, examples=4000, steps=40)
        relaxed = theory.robust_fit(s, epsilon).covariance
        differences.append(100 * np.abs(relaxed / game - 1).max())
        print(f"dimension {d}: relaxed off by {differences[-1]:.2f} %")
    right.loglog(dimensions, differences, "o-", color="#ee6677")
    right.set_xlabel("dimension")
    right.set_ylabel("relaxed off the exact game, %")
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main()
