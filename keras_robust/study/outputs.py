"""Tables of a replication."""

from keras_robust.study.reference import reference


def rows(results):
    """The table as strings: header, then one row per model and source.

    Args:
        results: What `replicate` returns.

    Returns:
        List of lists of strings.
    """
    summary = results["summary"]
    columns = [name for name in summary["standard"] if name != "worst case"]
    table = [["trained on", "figures of", *columns]]
    others = beside(results)
    for model in results["models"]:
        ours = [_cell(summary[model][column]) for column in columns]
        table.append([model, "this run", *ours])
        for source, figures in others.items():
            if model in figures:
                values = (figures[model].get(column) for column in columns)
                cells = ["" if v is None else f"{v:g}" for v in values]
                if any(cells):
                    table.append([model, source, *cells])
    return table


def beside(results):
    """Figures to stand beside ours, by whose they are.

    Args:
        results: What `replicate` returns.

    Returns:
        Dictionary: those of `reference`, and `predicted` where the features
        of the data set are planted.
    """
    found = reference(results["recipe"]["dataset"])
    if results.get("predicted"):
        found = {**found, "predicted": results["predicted"]}
    return found


def _cell(value):
    if value["deviation"] is None:
        return f"{value['mean']:.1f}"
    return f"{value['mean']:.1f} ± {value['deviation']:.1f}"


def _title(results):
    seeds = results["seeds"]
    return (
        f"{results['recipe']['dataset']}: accuracy in % on test images, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}, "
        f"{results['backend']}"
    )


def print_table(results):
    """Prints the table to the terminal.

    Args:
        results: What `replicate` returns.
    """
    from rich.table import Table

    header, *body = rows(results)
    table = Table(title=_title(results))
    for i, heading in enumerate(header):
        table.add_column(heading, justify="right" if i > 1 else "left")
    for row in body:
        table.add_row(*row)
    _console().print(table)


def print_claims(results):
    """Prints what became of each claim.

    Args:
        results: What `replicate` returns.
    """
    from rich.table import Table

    table = Table(title="Claims")
    for heading in ("claim", "verdict", "seeds", "numbers"):
        table.add_column(heading)
    seeds = len(results["seeds"])
    for claim in results["claims"]:
        numbers = ", ".join(
            f"{name} {number(value)}"
            for name, value in claim["numbers"].items()
        )
        held = f"{claim['seeds']} of {seeds}"
        table.add_row(claim["name"], claim["verdict"], held, numbers)
    _console().print(table)


def _console():
    # A log has no width of its own; the table must not be cut there.
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=200)


def number(value):
    """A claim's number with its spread, as text.

    Args:
        value: Dictionary of `mean` and `deviation`.
    """
    if value["mean"] is None:
        return "never"
    if value["deviation"] is None:
        return f"{value['mean']:.3g}"
    return f"{value['mean']:.3g} ± {value['deviation']:.2g}"


def write_table(results, path):
    """Writes the table as Markdown.

    Args:
        results: What `replicate` returns.
        path: File.
    """
    header, *body = rows(results)
    lines = [_title(results), ""]
    lines.append("| " + " | ".join(header) + " |")
    lines.append("|" + "---|" * len(header))
    lines += ["| " + " | ".join(row) + " |" for row in body]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
