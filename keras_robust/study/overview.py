"""The first command: two data sets, one report."""

from pathlib import Path

from keras_robust.study import outputs
from keras_robust.study.figures import draw_bars
from keras_robust.study.html_report import write_overview
from keras_robust.study.replicate import replicate

# Known answers first, then real images.
DATASETS = ("planted", "digits")


def overview(
    seed: int = 0,
    seeds: int = 1,
    output: str | Path = "replication",
    verbose: int = 1,
) -> dict[str, dict]:
    """Replicates on planted features, then on digits, and reports both.

    Writes `report.html` to `output`, which opens with what was shown on either
    data set, and all that `replicate` writes to a folder for each data set.
    After any stop a second run goes on from there.

    Args:
        seed: Int >= 0, the first seed.
        seeds: Int >= 1, how many seeds.
        output: Folder, made if missing.
        verbose: 0 for silence.

    Returns:
        Dictionary of what `replicate` returns, by data set.
    """
    folder = Path(output)
    found = {}
    for dataset in DATASETS:
        found[dataset] = replicate(
            dataset,
            seed=seed,
            seeds=seeds,
            output=folder / dataset,
            verbose=verbose,
        )
        # After each, so that a stop leaves a report of what is there.
        figures = {name: draw_bars(results) for name, results in found.items()}
        write_overview(found, figures, folder / "report.html")
    if verbose:
        print(outputs.overview_text(found))
        print(f"\nThe report of both: {folder / 'report.html'}")
    return found
