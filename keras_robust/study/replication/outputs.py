"""Table, figures and HTML report of a replication."""

from pathlib import Path

from keras_robust.plot.style import Picture
from keras_robust.study.replication import figures
from keras_robust.study.replication import tables
from keras_robust.study.replication.html_report import write_report
from keras_robust.study.replication.results import Results
from keras_robust.utils.files import read_json


def write(
    results: Results, folder: Path, images: Picture | None = None
) -> None:
    """Write everything that is drawn or tabled from the results.

    Args:
        results: What `replicate` returns.
        folder: Where to. The report includes an optimizer search in its
            subfolder `optimizer`.
        images: The gallery of training images; `None` for the one that lies in
            the folder, or for none.
    """
    tables.write_table(results, folder / "table.md")
    # The report has what was saved: to save a figure takes a second.
    drawn: dict[str, Path] = {}
    for name, figure in _draw(results).items():
        for kind in ("png", "svg"):
            drawn[name] = folder / f"{name}.{kind}"
            figure.savefig(drawn[name], dpi=150)
    gallery = folder / "images.png"
    if images is not None:
        images.savefig(gallery, dpi=150)
    if gallery.exists():
        drawn["images"] = gallery
    search = None
    optimizer = folder / "optimizer"
    # Written by `sweep`, the numbers first.
    if (optimizer / "accuracy.svg").exists():
        search = read_json(optimizer / "results.json")
        drawn["optimizer"] = optimizer / "accuracy.svg"
    write_report(results, drawn, folder / "report.html", search)


def _draw(results: Results) -> dict[str, Picture]:
    drawn = {
        "bars": figures.draw_bars(results),
        "curves": figures.draw_curves(results),
    }
    if "transfer" in next(iter(results["runs"].values()))["measured"]:
        drawn["transfer"] = figures.draw_transfer(results)
    return drawn
