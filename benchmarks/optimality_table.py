"""The table of docs/minimum_norm.md from the results of attack_optimality.py.

python benchmarks/optimality_table.py cifar10
"""

import json
import pathlib
import sys

RESULTS = pathlib.Path(__file__).parent / "results"


def read(name):
    """What `attack_optimality.py` wrote for a data set."""
    return json.loads((RESULTS / f"attack-optimality-{name}.json").read_text())


def table(results):
    """Lines of a Markdown table: attacks, and networks with their norms.

    Args:
        results: Rows of a file of results, by network and norm.
    """
    columns = list(results)
    names = sorted(
        {name for rows in results.values() for name in rows},
        key=lambda name: (not name.startswith("ours"), name.lower()),
    )
    heads = [column.split("-", 1)[1].replace(" l", " L") for column in columns]
    lines = [
        "| attack | " + " | ".join(heads) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in names:
        cells = [cell(results[column], name) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def cell(rows, name):
    """Optimality, its error, and how many images nothing was found for."""
    if name not in rows:
        return ""
    row = rows[name]
    best = max(each["optimality"] for each in rows.values())
    text = f"{100 * row['optimality']:.1f}"
    text = f"**{text}**" if row["optimality"] == best else text
    text += f" ± {100 * row['error']:.1f}"
    if row["not_found"]:
        text += f" ({100 * row['not_found']:.0f})"
    return text


if __name__ == "__main__":
    print("\n".join(table(read(sys.argv[1])["rows"])))
