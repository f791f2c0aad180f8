"""The measured tables of docs/adaptive.md and docs/black_box.md.

    python benchmarks/adaptive_tables.py hop_skip_jump

From what `target_order.py`, `flat_activations.py` and `hop_skip_jump.py` wrote.
"""

import json
import pathlib
import statistics
import sys

RESULTS = pathlib.Path(__file__).parent / "results"


def read(name):
    """What a benchmark wrote."""
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def spread(values, digits):
    """Mean and standard deviation."""
    found = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        found += f" ± {statistics.stdev(values):.{digits}f}"
    return found


def target_order(results):
    """Lines of a table: attacks, and data sets with what they leave and cost.

    Seconds depend on what else a machine does, and stay in the file.

    Args:
        results: What `target_order.py` wrote.
    """
    data = list(dict.fromkeys(run["data"] for run in results["runs"]))
    heads = [head for name in data for head in (f"{name}: left", "gradients")]
    lines = [
        "| attack | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for attack in results["runs"][0]["attacks"]:
        cells = [attack.replace("_", " ")]
        for name in data:
            runs = [run for run in results["runs"] if run["data"] == name]
            rows = [run["attacks"][attack] for run in runs]
            share = [
                100 * row["left"] / run["examples"]
                for row, run in zip(rows, runs, strict=True)
            ]
            cells += [
                f"{spread(share, 1)} %",
                f"{statistics.mean(row['gradients'] for row in rows):.0f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def hop_skip_jump(results):
    """Lines of a table: norms and queries, and the distances of both.

    Args:
        results: What `hop_skip_jump.py` wrote.
    """
    lines = [
        "| norm | queries | networks | ours | foolbox | ours / foolbox "
        "| of single images |",
        "|---" * 7 + "|",
    ]
    for norm in ("l2", "linf"):
        for steps in results["steps"]:
            runs = [
                run
                for run in results["runs"]
                if run["norm"] == norm and run["steps"] == steps
            ]
            queries = statistics.mean(
                count for run in runs for count in run["foolbox queries"]
            )
            ours, theirs = (
                [statistics.median(run[name]) for run in runs]
                for name in ("ours", "foolbox")
            )
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            single = sorted(
                a / b
                for run in runs
                for a, b in zip(run["ours"], run["foolbox"], strict=True)
            )
            low, *_, high = statistics.quantiles(single, n=10)
            cells = [
                {"l2": "L2", "linf": "L-infinity"}[norm],
                f"{queries:,.0f}",
                str(len(runs)),
                f"{statistics.mean(ours):.4f}",
                f"{statistics.mean(theirs):.4f}",
                f"{statistics.mean(ratios):.3f} "
                f"({min(ratios):.3f} to {max(ratios):.3f})",
                f"{statistics.median(single):.3f} ({low:.2f} to {high:.2f})",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def flat_activations(found):
    """Lines of a table: networks, and how often the flag is raised.

    Args:
        found: What `flat_activations.py` wrote, by data set.
    """
    lines = [
        "| data | activations | accuracy left | of it falls | raised |",
        "|---" * 5 + "|",
    ]
    for data, results in found.items():
        rows = {}
        for run in results["runs"]:
            name = run["network"] if run["kind"] == "flat" else "hide nothing"
            rows.setdefault(name, []).append(run)
        for name, runs in rows.items():
            raised = sum(run["flag"] is not None for run in runs)
            cells = [data.replace("_", " "), name]
            cells.append(f"{share(runs, 'left')} %")
            falls = "fall" in runs[0]
            cells.append(f"{share(runs, 'fall')} %" if falls else "")
            cells.append(f"{raised} of {len(runs)}")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def share(runs, name):
    """Mean and spread of a number of examples, in % of the examples."""
    return spread([100 * run[name] / run["examples"] for run in runs], 1)


def read_flat_activations():
    """What `flat_activations.py` wrote, by data set."""
    paths = sorted(RESULTS.glob("flat-activations-*.json"))
    found = [json.loads(path.read_text("utf-8")) for path in paths]
    return {results["data"]: results for results in found}


TABLES = {
    "target_order": lambda: target_order(read("target-order")),
    "flat_activations": lambda: flat_activations(read_flat_activations()),
    "hop_skip_jump": lambda: hop_skip_jump(read("hop-skip-jump")),
}


if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        print("\n".join(TABLES[name]()), end="\n\n")
