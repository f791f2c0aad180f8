"""The tables and the figure of docs/minimum_norm.md, from their results.

    python benchmarks/optimality_table.py

Reads what `attack_optimality.py` wrote, writes a table for each norm into the
page, between `<!-- table NORM -->` and `<!-- /table -->`, and draws
`docs/images/optimality.png`.
"""

import json
import pathlib
import re
import statistics

from matplotlib.figure import Figure

HERE = pathlib.Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "minimum_norm.md"
# Files of results, the networks in them, and how the page calls those.
NETWORKS = (
    ("cifar10", "cifar10-adversarial", "CIFAR-10, adversarial"),
    ("cifar10", "cifar10-standard", "CIFAR-10, standard"),
    ("fashion_mnist", "fashion_mnist-standard", "Fashion-MNIST"),
)
NORMS = {"l0": "L0", "l1": "L1", "l2": "L2", "linf": "L-infinity"}
BLOCK = re.compile(r"<!-- table (.+?) -->\n.*?<!-- /table -->", re.DOTALL)


def read():
    """Rows of results by network and norm."""
    found = {}
    for file, network, title in NETWORKS:
        path = HERE / "results" / f"attack-optimality-{file}.json"
        rows = json.loads(path.read_text("utf-8"))["rows"]
        for norm in NORMS:
            found[title, norm] = rows[f"{network} {norm}"]
    return found


def attacks_of(columns):
    """Names of attacks, ours first."""
    return sorted(
        {name for rows in columns for name in rows},
        key=lambda name: (not name.startswith("ours"), name.lower()),
    )


def table(columns):
    """A Markdown table: attacks of one norm by network.

    Args:
        columns: Dictionary of the rows of a network, by its title.
    """
    lines = [
        "| attack | passes | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name in attacks_of(columns.values()):
        rows = [rows[name] for rows in columns.values() if name in rows]
        passes = max(row["forward"] + row["backward"] for row in rows)
        cells = [cell(rows, name) for rows in columns.values()]
        lines.append(f"| {name} | {passes:,.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(rows, name):
    """Optimality, its error, and for how many images nothing was found."""
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


def tables(found):
    """The tables of the page by the name of the norm."""
    titles = [title for _, _, title in NETWORKS]
    return {
        name: table({title: found[title, norm] for title in titles})
        for norm, name in NORMS.items()
    }


def rewritten(text, found):
    """A page with its tables made anew."""
    made = tables(found)
    return BLOCK.sub(
        lambda block: (
            f"<!-- table {block[1]} -->\n\n{made[block[1]]}\n\n<!-- /table -->"
        ),
        text,
    )


def from_worst_to_best(columns):
    """Attacks by the mean of their optimality over the networks."""

    def mean_optimality(name):
        rows = [column[name] for column in columns if name in column]
        return statistics.mean(row["optimality"] for row in rows)

    return sorted(attacks_of(columns), key=mean_optimality)


def figure(found):
    """A panel for each norm, the best attacks on top."""
    titles = [title for _, _, title in NETWORKS]
    names = {
        norm: from_worst_to_best([found[title, norm] for title in titles])
        for norm in NORMS
    }
    heights = [
        max(len(names["l0"]), len(names["linf"])),
        max(len(names["l1"]), len(names["l2"])),
    ]
    picture = Figure((9, 1.6 + 0.22 * sum(heights)), layout="constrained")
    axes = picture.subplots(2, 2, height_ratios=heights).flat
    for ax, norm in zip(axes, ("l0", "linf", "l1", "l2"), strict=True):
        for title, marker, color in zip(
            titles, "os^", ("#4477aa", "#ee6677", "#228833"), strict=True
        ):
            rows = found[title, norm]
            values = [
                100 * rows[name]["optimality"] if name in rows else float("nan")
                for name in names[norm]
            ]
            ax.plot(
                values,
                range(len(values)),
                linestyle="",
                marker=marker,
                color=color,
                label=title,
            )
        ax.set_yticks(range(len(names[norm])), names[norm], fontsize=8)
        for label in ax.get_yticklabels():
            if label.get_text().startswith("ours"):
                label.set_fontweight("bold")
        ax.set_xlim(right=101)
        ax.tick_params(axis="x", labelsize=8)
        ax.grid(axis="y", linewidth=0.4)
        ax.set_title(
            f"{NORMS[norm]}: optimality in % (right: nearer)", fontsize=9
        )
    lines, labels = ax.get_legend_handles_labels()
    picture.legend(lines, labels, loc="outside lower center", ncols=3)
    return picture


if __name__ == "__main__":
    results = read()
    PAGE.write_text(rewritten(PAGE.read_text("utf-8"), results), "utf-8")
    figure(results).savefig(DOCS / "images" / "optimality.png", dpi=100)
