"""The report of a study as one HTML file that needs no network."""

import base64
import io

from keras_robust.study import outputs

_SYMBOLS = {"shown": "✓", "not shown": "✗", "not run": "–"}
# What a reader who does not see the figure is told.
_FIGURES = {
    "bars": "Clean and robust accuracy by training set: the paper's Fig. 2, "
    "with controls. The table below has the numbers.",
    "curves": "Accuracy by epoch on what each network is trained on and on "
    "test images; a line per seed, grey is chance, a triangle is the epoch "
    "that left it.",
    "transfer": "Transfer from the source network against accuracy trained on "
    "D_det: the paper's Fig. 3. The section on transfer has the numbers.",
    "optimizer": "Clean test accuracy after training on the searched set, "
    "against the peak learning rate; a panel per optimizer, a mark per "
    "training, whose shape and color are its outcome.",
    "images": "The first training images, what each set made of them, and the "
    "label it gave them.",
}


def write_report(results, figures, path, search=None):
    """Writes the report.

    Args:
        results: What `replicate` returns.
        figures: Dictionary of `matplotlib.figure.Figure` by name: `bars`,
            `curves`, `images`, where measured `transfer`, and `optimizer` of a
            search.
        path: File.
        search: What `sweep` returned for this data set, or `None`.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_robust.study"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = outputs.number
    header, *rows = outputs.rows(results)
    text = environment.get_template("report.html").render(
        results=results,
        symbols=_SYMBOLS,
        header=header,
        rows=rows,
        figures={
            name: {
                "source": _embedded(
                    figure, "png" if name == "images" else "svg"
                ),
                "caption": _FIGURES[name],
            }
            for name, figure in figures.items()
        },
        published=outputs.beside(results),
        hours=_hours(results),
        slowest=_slowest(results),
        search=search,
    )
    path.write_text(text, encoding="utf-8")


def _embedded(figure, kind):
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=110)
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:{mime};base64,{data}"


def _hours(results):
    """Hours of all stages, by seed."""
    return {
        seed: sum(stages.values()) / 3600
        for seed, stages in results["seconds_by_seed_and_stage"].items()
    }


def _slowest(results):
    """Seconds of each stage of the first seed, the longest first."""
    stages = next(iter(results["seconds_by_seed_and_stage"].values()))
    return sorted(stages.items(), key=lambda item: -item[1])
