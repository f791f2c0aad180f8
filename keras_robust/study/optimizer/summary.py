"""What the trainings of an optimizer search show."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust.study.optimizer.trials import AtEqualAccuracy
from keras_robust.study.optimizer.trials import Best
from keras_robust.study.optimizer.trials import Findings
from keras_robust.study.optimizer.trials import Summary
from keras_robust.study.optimizer.trials import Trained
from keras_robust.study.optimizer.trials import Trial
from keras_robust.study.plateau_monitor import OUTCOMES

# Factors and their values.
SettingKey = tuple[tuple[str, Any], ...]
# In the order in which variance is attributed to them.
FACTORS = (
    # Of Hyperband, which trains one setting for more and more of them.
    "epochs",
    "network",
    "batch_size",
    "augment",
    "weight_decay",
    "schedule",
    "optimizer",
    "learning_rate",
    "momentum",
    "nesterov",
)
# Those that all optimizers share; others belong to one.
_SHARED = FACTORS[: FACTORS.index("optimizer") + 1]
# What a training has that is no factor.
_OTHERS = ("seed", *Trained.__annotations__)


def factors_of(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """All factors: `FACTORS`, and those of optimizers of one's own."""
    found = dict.fromkeys(name for run in runs for name in run)
    own = [name for name in found if name not in (*FACTORS, *_OTHERS)]
    return [*FACTORS, *own]


def setting_of(run: Mapping[str, Any]) -> SettingKey:
    """All factors of a training and their values."""
    return tuple((name, run[name]) for name in factors_of([run]) if name in run)


def summarize(runs: list[Trial]) -> Summary:
    """All that is reported of the trainings of a search.

    Args:
        runs: What `OptimizerSearch.run` returned, of all trainings.
    """
    found: Findings = {
        "runs": runs,
        "best": best_in_class(runs),
        "outcomes": outcomes(runs),
        "variance_explained": variance_explained(runs),
        "seed_agreement": seed_agreement(runs),
    }
    if "val_robust_accuracy" in runs[0]:
        found["robustness"] = robustness_at_equal_accuracy(runs)
    return {**found, "verdict": verdict(found)}


def best_in_class(runs: Sequence[Trial]) -> dict[str, Best]:
    """The best setting of every optimizer, by clean validation accuracy."""
    best: dict[str, Best] = {}
    are_varied = len(values_of(runs, "epochs")) > 1
    for optimizer in values_of(runs, "optimizer"):
        settings = by_setting(r for r in runs if r["optimizer"] == optimizer)
        setting, seeds = max(
            settings.items(),
            key=lambda item: np.mean([run["val_accuracy"] for run in item[1]]),
        )
        accuracy = np.array([run["test_accuracy"] for run in seeds])
        best[optimizer] = {
            "setting": {
                name: value
                for name, value in setting
                if name != "epochs" or are_varied
            },
            "test_accuracy": float(accuracy.mean()),
            "interval": _t_interval(accuracy),
            "outcomes": [run["outcome"] for run in seeds],
        }
    return best


def outcomes(runs: Sequence[Trial]) -> dict[str, dict[str, int]]:
    """How many trainings of each optimizer had which outcome."""
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


def variance_explained(runs: Sequence[Trial]) -> dict[str, float]:
    """Share of the variance of test accuracy that each factor explains.

    Increments of R squared of linear models with one more factor at a time, in
    the order of `FACTORS`. Learning rates of different optimizers are different
    values. In a full grid the order does not matter.

    Args:
        runs: Trainings.

    Returns:
        Share by factor that varies, and `seed and interactions`, the rest.
    """
    from sklearn.linear_model import LinearRegression
    from sklearn.preprocessing import OneHotEncoder

    accuracy = np.array([run["test_accuracy"] for run in runs])
    optimizers = values_of(runs, "optimizer")
    columns: list[list[str]] = []
    shares: dict[str, float] = {}
    before = 0.0
    for factor in factors_of(runs):
        column = [str(run.get(factor)) for run in runs]
        known = 1
        if factor not in _SHARED:
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


def seed_agreement(runs: Sequence[Trial]) -> float:
    """Share of the settings whose seeds all had the same outcome."""
    settings = by_setting(runs).values()
    same = [len({run["outcome"] for run in seeds}) == 1 for seeds in settings]
    return float(np.mean(same))


def robustness_at_equal_accuracy(
    runs: Sequence[Trial], width: float = 0.02
) -> dict[str, AtEqualAccuracy]:
    """Robust accuracy of each optimizer where clean accuracies are alike.

    Ma et al. 2023 (arXiv:2308.06703): networks trained by SGD are more robust
    than those by Adam of the same accuracy.

    Args:
        runs: Trainings with `val_robust_accuracy`.
        width: How far clean accuracies may be from the one at which optimizers
            are compared: the lowest of their best ones.

    Returns:
        Means by optimizer.
    """
    names = values_of(runs, "optimizer")
    at = min(
        max(run["val_accuracy"] for run in runs if run["optimizer"] == name)
        for name in names
    )
    found: dict[str, AtEqualAccuracy] = {}
    for name in names:
        alike = [
            run
            for run in runs
            if run["optimizer"] == name
            and abs(run["val_accuracy"] - at) <= width
        ]
        found[name] = {
            "trainings": len(alike),
            "val_accuracy": _mean(run["val_accuracy"] for run in alike),
            "val_robust_accuracy": _mean(
                run["val_robust_accuracy"] for run in alike
            ),
        }
    return found


def verdict(found: Findings) -> str:
    """Findings in a paragraph."""
    best = sorted(
        found["best"].items(), key=lambda item: -item[1]["test_accuracy"]
    )
    classes = "; ".join(
        f"{name} {_with_interval(entry)}{_rate_of(entry)}"
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


def _rate_of(entry: Best) -> str:
    rate = entry["setting"].get("learning_rate")
    return "" if rate is None else f" at {rate:.2g}"


def values_of(runs: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """Different values of a factor, in order of appearance."""
    return list(dict.fromkeys(run[name] for run in runs if name in run))


def by_setting(runs: Iterable[Trial]) -> dict[SettingKey, list[Trial]]:
    """Group trainings that differ by their seed only."""
    settings: dict[SettingKey, list[Trial]] = {}
    for run in runs:
        settings.setdefault(setting_of(run), []).append(run)
    return settings


def _mean(values: Iterable[float]) -> float | None:
    kept = [*values]
    return float(np.mean(kept)) if kept else None


def _t_interval(values: np.ndarray) -> list[float] | None:
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1)
    half /= len(values) ** 0.5
    return [float(values.mean() - half), float(values.mean() + half)]


def _with_interval(entry: Best) -> str:
    text = f"{100 * entry['test_accuracy']:.1f}"
    if entry["interval"] is None:
        return text
    low, high = (100 * end for end in entry["interval"])
    return f"{text} [{low:.1f}, {high:.1f}]"
