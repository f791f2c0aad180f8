"""What the trainings of an optimizer search say."""

from typing import Any

import numpy as np

from keras_robust.study.plateau_monitor import OUTCOMES

# Factors in the order in which they are credited.
FACTORS = (
    *("network", "batch_size", "augment", "weight_decay", "schedule"),
    *("optimizer", "learning_rate", "momentum", "nesterov"),
)
_OF_AN_OPTIMIZER = ("learning_rate", "momentum", "nesterov")


def setting_of(run: Any) -> tuple:
    """What a run's setting is called: all factors that it has."""
    return tuple((name, run[name]) for name in FACTORS if name in run)


def summarize(runs: Any) -> dict:
    """All that is said of the trainings of a search.

    Args:
        runs: List of what `OptimizerSearch.run` returns.

    Returns:
        Dictionary of plain values: `runs`, `best` by optimizer, `outcomes` by
        optimizer, `variance_explained` by factor, `seed_agreement`,
        `robustness` where measured, and `verdict`, a paragraph.
    """
    found = {
        "runs": runs,
        "best": best_in_class(runs),
        "outcomes": outcomes(runs),
        "variance_explained": variance_explained(runs),
        "seed_agreement": seed_agreement(runs),
    }
    if "val_robust_accuracy" in runs[0]:
        found["robustness"] = robustness_at_equal_accuracy(runs)
    return {**found, "verdict": verdict(found)}


def best_in_class(runs: Any) -> dict:
    """The best setting of every optimizer, by clean validation accuracy.

    Args:
        runs: List of runs.

    Returns:
        Dictionary by optimizer: `setting`, `test_accuracy` (mean over seeds),
        its 95 % t-interval (`None` for one seed), and `outcomes`.
    """
    best = {}
    for optimizer in values_of(runs, "optimizer"):
        settings = by_setting(r for r in runs if r["optimizer"] == optimizer)
        setting, seeds = max(
            settings.items(),
            key=lambda item: np.mean([run["val_accuracy"] for run in item[1]]),
        )
        accuracy = np.array([run["test_accuracy"] for run in seeds])
        best[optimizer] = {
            "setting": dict(setting),
            "test_accuracy": float(accuracy.mean()),
            "interval": _t_interval(accuracy),
            "outcomes": [run["outcome"] for run in seeds],
        }
    return best


def outcomes(runs: Any) -> dict:
    """How many trainings of each optimizer came out how.

    Args:
        runs: List of runs.

    Returns:
        Dictionary by optimizer of counts by outcome.
    """
    return {
        optimizer: {
            outcome: sum(
                run["outcome"] == outcome
                for run in runs
                if run["optimizer"] == optimizer
            )
            for outcome in OUTCOMES
        }
        for optimizer in values_of(runs, "optimizer")
    }


def variance_explained(runs: Any) -> dict:
    """Share of the variance of test accuracy that each factor explains.

    Increments of R squared of linear models with one more factor at a time,
    in the order of `FACTORS`; a learning rate is one of its optimizer. In a
    full grid the order of what is crossed does not matter.

    Args:
        runs: List of runs.

    Returns:
        Dictionary by factor that varies, and `seed and interactions`, the
        rest.
    """
    from sklearn.linear_model import LinearRegression
    from sklearn.preprocessing import OneHotEncoder

    accuracy = np.array([run["test_accuracy"] for run in runs])
    optimizers = values_of(runs, "optimizer")
    columns, shares, before = [], {}, 0.0
    for factor in FACTORS:
        column = [str(run.get(factor)) for run in runs]
        known = 1
        if factor in _OF_AN_OPTIMIZER:
            column = [f"{run['optimizer']} {run.get(factor)}" for run in runs]
            known = len(optimizers)
        if len(set(column)) == known or not np.ptp(accuracy):
            continue
        columns.append(column)
        inputs = OneHotEncoder(sparse_output=False).fit_transform(
            np.array(columns).T
        )
        now = LinearRegression().fit(inputs, accuracy).score(inputs, accuracy)
        shares[factor] = float(max(now - before, 0.0))
        before = now
    shares["seed and interactions"] = float(1 - before)
    return shares


def seed_agreement(runs: Any) -> float:
    """Share of settings of which all seeds had the same outcome.

    Args:
        runs: List of runs.

    Returns:
        Float.
    """
    settings = by_setting(runs).values()
    same = [len({run["outcome"] for run in seeds}) == 1 for seeds in settings]
    return float(np.mean(same))


def robustness_at_equal_accuracy(runs: Any, width: float = 0.02) -> dict:
    """Robust accuracy of each optimizer where clean accuracies are alike.

    Ma et al. 2023 (arXiv:2308.06703): networks trained by SGD are more robust
    than those by Adam of the same accuracy.

    Args:
        runs: List of runs with `val_robust_accuracy`.
        width: How far accuracies may be from that at which they are compared,
            the lowest of the optimizers' best ones.

    Returns:
        Dictionary by optimizer: `trainings`, `val_accuracy` and
        `val_robust_accuracy`, means.
    """
    names = values_of(runs, "optimizer")
    at = min(
        max(run["val_accuracy"] for run in runs if run["optimizer"] == name)
        for name in names
    )
    found = {}
    for name in names:
        alike = [
            run
            for run in runs
            if run["optimizer"] == name
            and abs(run["val_accuracy"] - at) <= width
        ]
        found[name] = {"trainings": len(alike)}
        for key in ("val_accuracy", "val_robust_accuracy"):
            values = [run[key] for run in alike]
            found[name][key] = float(np.mean(values)) if values else None
    return found


def verdict(found: Any) -> str:
    """What the numbers say, in a paragraph.

    Args:
        found: What `summarize` returns, without this.

    Returns:
        String.
    """
    best = sorted(
        found["best"].items(), key=lambda item: -item[1]["test_accuracy"]
    )
    classes = "; ".join(
        f"{name} {_with_interval(entry)} at "
        f"{entry['setting']['learning_rate']:.2g}"
        for name, entry in best
    )
    counts = "; ".join(
        f"{name} {', '.join(f'{n} {o}' for o, n in by.items())}"
        for name, by in found["outcomes"].items()
    )
    shares = sorted(
        found["variance_explained"].items(), key=lambda item: -item[1]
    )
    explained = ", ".join(f"{name} {100 * s:.0f} %" for name, s in shares)
    return (
        f"Clean test accuracy of the best setting of each optimizer, in %: "
        f"{classes}. Outcomes of all trainings: {counts}. Of the variance of "
        f"clean test accuracy {explained}. All seeds of a setting came out "
        f"alike in {100 * found['seed_agreement']:.0f} % of the settings."
    )


def values_of(runs: Any, name: str) -> list:
    """Different values of a factor, in order of appearance."""
    return list(dict.fromkeys(run[name] for run in runs if name in run))


def by_setting(runs: Any) -> Any:
    """Runs by setting: those that differ by their seed only."""
    settings = {}
    for run in runs:
        settings.setdefault(setting_of(run), []).append(run)
    return settings


def _t_interval(values):
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1)
    half /= len(values) ** 0.5
    return [float(values.mean() - half), float(values.mean() + half)]


def _with_interval(entry):
    text = f"{100 * entry['test_accuracy']:.1f}"
    if entry["interval"] is None:
        return text
    low, high = (100 * end for end in entry["interval"])
    return f"{text} [{low:.1f}, {high:.1f}]"
