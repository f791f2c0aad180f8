"""Tables and claims of a replication, as text."""

import textwrap
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_robust.study.replication.am207_errors import AM207_RADII
from keras_robust.study.replication.claims import ESCAPE_EPOCH
from keras_robust.study.replication.reference import reference
from keras_robust.study.replication.results import ClaimResult
from keras_robust.study.replication.results import MeasuredRadius
from keras_robust.study.replication.results import OverSeeds
from keras_robust.study.replication.results import Results
from keras_robust.study.replication.results import about_images
from keras_robust.study.replication.results import broken_linf_column
from keras_robust.study.replication.results import column_heading
from keras_robust.study.replication.results import l2_column
from keras_robust.study.replication.results import linf_column
from keras_robust.study.replication.verdicts import NOT_RUN
from keras_robust.study.replication.verdicts import SHOWN
from keras_robust.study.replication.verdicts import TOO_SMALL
from keras_robust.study.replication.verdicts import UNDECIDED
from keras_robust.study.replication.verdicts import VERDICTS
from keras_robust.study.replication.verdicts import tally
from keras_robust.study.replication.verdicts import unread_because

# Characters in a line of a terminal.
WIDTH = 80
# Attacks of the AM207 report, at radii too large to test robustness.
AM207_COLUMNS = (
    *map(linf_column, AM207_RADII),
    *map(broken_linf_column, AM207_RADII),
)
# Figures of others by model and column.
Figures = Mapping[str, Mapping[str, Any]]


def summary_text(results: Results) -> str:
    """A study in one line: what was run, and how many claims are shown.

    Args:
        results: What `Study.run` returns.
    """
    models = len(results["models"])
    return f"{_title(results)}: {models} models; {tally(results['claims'])}"


def rows(results: Results) -> list[list[str]]:
    """The accuracy table as text: a header, a row per model and source.

    Args:
        results: What `replicate` returns.

    Returns:
        List of lists of strings.
    """
    left_out = ("worst case", *AM207_COLUMNS)
    names = results["summary"]["standard"]
    columns = [name for name in names if name not in left_out]
    return _rows(results, columns, beside(results))


def am207_rows(results: Results) -> list[list[str]]:
    """The accuracy table at the L-infinity radii of the AM207 report.

    Args:
        results: What `replicate` returns.

    Returns:
        List of lists of strings; empty unless the recipe has the errors of
        that report.
    """
    if not results["recipe"].get("errors"):
        return []
    names = results["summary"]["standard"]
    columns = [name for name in AM207_COLUMNS if name in names]
    return _rows(results, columns, beside(results)) if columns else []


def _rows(
    results: Results, columns: Sequence[str], others: Mapping[str, Figures]
) -> list[list[str]]:
    summary = results["summary"]
    table = [["trained on", "figures of", *columns]]
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


def beside(results: Results) -> dict[str, dict[str, Any]]:
    """Figures of others to compare with, by their source.

    Args:
        results: What `replicate` returns.

    Returns:
        Dictionary: those of `reference`, and `predicted` where the features
        of the data set are planted.
    """
    found = reference(results["recipe"]["dataset"])
    if results.get("predicted"):
        # Results of version 0.1 name their publication otherwise.
        predicted = {"publication": "", **results["predicted"]}
        found = {**found, "predicted": predicted}
    return found


def _cell(value: OverSeeds) -> str:
    if value["mean"] is None:
        return "not known"
    if value["deviation"] is None:
        return f"{value['mean']:.1f}"
    return f"{value['mean']:.1f} ± {value['deviation']:.1f}"


def images_text(results: Results) -> str:
    """Which images accuracies are of, and how many of them are attacked.

    Args:
        results: What `replicate` returns.

    Returns:
        Such as "test images", or "held-out training images (PGD and FGSM on
        the first 2000)".
    """
    recipe = results["recipe"]
    images = about_images("test images", recipe)
    attacked = recipe.get("attacked_images")
    # Earlier results do not tell.
    evaluated = recipe.get("evaluated_images")
    if attacked is None or (evaluated is not None and attacked >= evaluated):
        return images
    return f"{images} (PGD and FGSM on the first {attacked})"


def _title(results: Results) -> str:
    seeds = results["seeds"]
    return (
        f"{results['recipe']['dataset']}: accuracy in % on "
        f"{images_text(results)}, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}, "
        f"{results['backend']}"
    )


def table_text(results: Results) -> str:
    """The columns of the accuracy table that decide claims, for a terminal.

    Args:
        results: What `replicate` returns.

    Returns:
        Lines of at most `WIDTH` characters: clean accuracy, PGD at the L2
        radii and at the L-infinity radius at which claims are read. Columns
        that do not fit are left out from the right.
    """
    columns = ["clean", *map(l2_column, results["recipe"]["radii"])]
    read = results["read_at"]
    if read and read["linf"]:
        columns.append(read["linf"])
    header, *body = _rows(results, columns, beside(results))
    heads = [column_heading(name) for name in header[2:]]
    lines = [["trained on", *(head[0] for head in heads)]]
    lines.append(["", *(head[1] for head in heads)])
    for model, source, *cells in body:
        lines.append([model if source == "this run" else f"  {source}", *cells])
    return "\n".join(["", *_wrapped(_title(results)), *aligned(lines)])


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of equal columns, the first to the left; no wider than `WIDTH`.

    Columns that do not fit are left out from the right.

    Args:
        lines: Cells of each line.
    """
    widths = [max(map(len, column)) + 2 for column in zip(*lines, strict=True)]
    while sum(widths) > WIDTH + 2:
        widths.pop()
    return [
        "".join(
            [line[0].ljust(widths[0] - 2)]
            + [
                cell.rjust(width)
                for cell, width in zip(line[1:], widths[1:], strict=False)
            ]
        ).rstrip()
        for line in lines
    ]


def reading_text(results: Results) -> str:
    """The radius at which claims are decided, as a sentence.

    Args:
        results: What `replicate` returns.
    """
    read = results["read_at"]
    if read is None:
        reason = about_images(
            unread_because(results["runs"]), results["recipe"]
        )
        return f"Claims on attacked figures cannot be decided: {reason}."
    linf = ""
    if read["linf"]:
        _, radius = column_heading(read["linf"])
        linf = f" (L-infinity: {radius}, of equal volume)"
    return (
        f"Attacked figures are PGD at L2 {read['radius']:g}{linf}, the "
        "smallest radius at which the standard model keeps less than half of "
        "its clean accuracy."
    )


def radius_sentence(found: MeasuredRadius) -> str:
    """What was measured, in words.

    Args:
        found: What `measure_radius` returns.
    """
    network, seen = "a standard network", " that it has not seen"
    if found.get("is_given"):
        network, seen = "the standard network that was given", ""
    return (
        f"Measured radius: L2 {found['radius']:g}, at which {network} "
        f"keeps half of its accuracy of {100 * found['clean']:.0f} % on "
        f"{found['images']} training images{seen}."
    )


def radius_text(results: Results) -> str:
    """How open radii were chosen, as a sentence; empty if they were given.

    Args:
        results: What `Study.run` returns.
    """
    found = results.get("measured_radius")
    if not found:
        return ""
    recipe = results["recipe"]
    radii = " and ".join(f"{radius:g}" for radius in recipe["radii"])
    return (
        f"{radius_sentence(found)} So adversarial training has the radius "
        f"{recipe['epsilon']:g}, the evaluation {radii}, and the relabelled "
        f"sets {recipe['relabel_epsilon']:g}."
    )


def claims_text(results: Results) -> str:
    """The verdict on each claim, for a terminal.

    Args:
        results: What `replicate` returns.

    Returns:
        Lines of at most `WIDTH` characters: the claims by verdict, those that
        are shown first, each with its numbers.
    """
    title = f"Claims on {results['recipe']['dataset']}: "
    if results["recipe"].get("too_small"):
        return "\n".join(["", *_wrapped(title + TOO_SMALL)])
    claims, seeds = results["claims"], len(results["seeds"])
    lines = ["", *_wrapped(f"{title}{tally(claims)}.")]
    lines += _wrapped(reading_text(results))
    lines += _wrapped(radius_text(results))
    explained: dict[str, str] = {}
    for verdict in VERDICTS:
        chosen = [claim for claim in claims if claim["verdict"] == verdict]
        if chosen:
            lines += ["", f"{verdict[0].upper()}{verdict[1:]}:"]
        for claim in chosen:
            lines += _wrapped(f"{claim['name']}. {claim['statement']}", "  ")
            for text in _details(claim, seeds, explained):
                lines += _wrapped(text, "      ")
    return "\n".join([*lines, ""])


def overview_text(all_results: Mapping[str, Results]) -> str:
    """The verdicts on several data sets, for a terminal.

    Args:
        all_results: Dictionary of what `replicate` returned, by data set; two
            fit into `WIDTH` characters.

    Returns:
        Lines: how many claims are shown, and the verdict on each.
    """
    lines = [""]
    for name, results in all_results.items():
        small = results["recipe"].get("too_small")
        summary = TOO_SMALL if small else f"{tally(results['claims'])}."
        lines += _wrapped(f"{name}: {summary}")
    verdict_of = {
        name: {claim["name"]: claim["verdict"] for claim in results["claims"]}
        for name, results in all_results.items()
    }
    claims = dict.fromkeys(
        claim for found in verdict_of.values() for claim in found
    )
    table = [["claim", *all_results]]
    for claim in claims:
        cells = [found.get(claim, "") for found in verdict_of.values()]
        table.append([claim, *cells])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines.append("")
    for row in table:
        padded = [
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _details(
    claim: ClaimResult, seeds: int, explained: dict[str, str]
) -> list[str]:
    """Numbers of a claim, and why it is not shown.

    Args:
        claim: What `verdicts` returns.
        seeds: How many there are.
        explained: Names of claims by the reasons printed so far, to refer to.
    """
    numbers = [
        f"{name} {number(value, name)}"
        for name, value in claim["numbers"].items()
    ]
    details = ["; ".join(numbers)] if numbers else []
    if claim["verdict"] == UNDECIDED:
        first = explained.setdefault(claim["reason"], claim["name"])
        as_before = f'as of "{first}"'
        again = first != claim["name"]
        details.append(f"Reason: {as_before if again else claim['reason']}.")
    elif claim["verdict"] not in (SHOWN, NOT_RUN):
        held = f" (holds in {claim['seeds']} of {seeds} seeds)"
        details.append(f"Rule: {claim['rule']}{held if seeds > 1 else ''}.")
    return details


def _wrapped(text: str, indent: str = "") -> list[str]:
    # A deviation stays on the line of its mean, and "y + 1" on one line.
    for joined in (" ± ", "y + 1"):
        text = text.replace(joined, joined.replace(" ", "\xa0"))
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return [line.replace("\xa0", " ") for line in lines]


def number(value: OverSeeds, name: str) -> str:
    """A number of a claim with its standard deviation, as text.

    Args:
        value: Its mean over seeds.
        name: Of the number.

    Returns:
        Such as "3 ± 1.4", or "3 (1 of 2 seeds)" where other seeds have none.
    """
    if value["mean"] is None:
        return "never" if name == ESCAPE_EPOCH else "not known"
    text = f"{value['mean']:.3g}"
    if value["deviation"] is not None:
        text += f" ± {value['deviation']:.2g}"
    if "known" in value:
        text += f" ({value['known']} of {value['seeds']} seeds)"
    return text


def write_table(results: Results, path: Path) -> None:
    """Write the accuracy tables as Markdown.

    Args:
        results: What `replicate` returns.
        path: File.
    """
    lines = [_title(results), "", *_markdown(rows(results))]
    am207 = am207_rows(results)
    if am207:
        title = "At the L-infinity radii of the AM207 report:"
        lines += ["", title, "", *_markdown(am207)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _markdown(table: Sequence[Sequence[str]]) -> list[str]:
    header, *body = table
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in body),
    ]
