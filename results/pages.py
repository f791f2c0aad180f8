"""Writes the tables of the pages on results anew from the numbers kept here.

    python results/pages.py

A page has `<!-- table NAME -->`, the table, `<!-- /table -->`; the names are
those of `TABLES`.
"""

import json
import re
import statistics
from pathlib import Path

RESULTS = Path(__file__).parent
DOCS = RESULTS.parent / "docs"
PAGES = ("replication.md", "optimizer.md", "laboratory.md")
BLOCK = re.compile(r"<!-- table (.+?) -->\n.*?<!-- /table -->", re.DOTALL)
REPLICATIONS = {
    "planted": "planted",
    "CIFAR-10": "cifar10/gpu",
    "16,000 of CIFAR-10": "cifar10/quick",
    "Fashion-MNIST": "fashion_mnist/cpu",
    "digits": "digits",
}
SHORT = {"same direction, smaller": "smaller", "cannot be decided": "open"}
NON_ROBUST = ("D_NR", "D_rand", "D_det", "D_other")
# Sets of the optimizer searches on digits.
SEARCHED = ("D_rand", "D", "D_R", "D_det")
OPTIMIZERS = {
    "sgd": "SGD",
    "sgdw": "SGD, decoupled decay",
    "adam": "Adam",
    "adamw": "AdamW",
}
# What an error of the AM207 report is measured by: names of the right and the
# wrong model and column.
ERRORS = {
    "L-infinity attack leaves ball and box, radius 0.25, adversarial model": (
        ("adversarial", "pgd-linf-0.25"),
        ("adversarial", "broken-linf-0.25"),
    ),
    "nine target classes (D_rand, clean)": (
        ("D_rand", "clean"),
        ("D_rand_nine_targets", "clean"),
    ),
    "no box (D_rand, clean)": (
        ("D_rand", "clean"),
        ("D_rand_no_box", "clean"),
    ),
    "no box (D_rand, L2 0.25)": (
        ("D_rand", "pgd-l2-0.25"),
        ("D_rand_no_box", "pgd-l2-0.25"),
    ),
    "representation before pooling (D_R, L2 0.25)": (
        ("D_R", "pgd-l2-0.25"),
        ("D_R_unpooled", "pgd-l2-0.25"),
    ),
    "one flip for all, images enlarged (standard, L2 0.25)": (
        ("standard", "pgd-l2-0.25"),
        ("standard_frozen_flips", "pgd-l2-0.25"),
    ),
}


def read(folder):
    """The numbers of a run."""
    return json.loads((RESULTS / folder / "results.json").read_text("utf-8"))


def markdown(header, rows):
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value):
    """Mean and standard deviation of a summary."""
    return f"{value['mean']:.1f} ± {value['deviation']:.1f}"


def of_values(values):
    """The same of a list of fractions."""
    percent = [100 * value for value in values]
    return f"{statistics.mean(percent):.1f} ± {statistics.stdev(percent):.1f}"


def claims():
    """The verdict on each claim, by data set."""
    verdicts = {}
    for name, folder in REPLICATIONS.items():
        for claim in read(folder)["claims"]:
            verdict = SHORT.get(claim["verdict"], claim["verdict"])
            verdicts.setdefault(claim["statement"], {})[name] = verdict
    rows = [
        [statement, *(found.get(column, "") for column in REPLICATIONS)]
        for statement, found in verdicts.items()
    ]
    return markdown(["claim", *REPLICATIONS], rows)


def replication(folder):
    """The rows of a replication's own table, without those of the paper."""
    lines = (RESULTS / folder / "table.md").read_text("utf-8").splitlines()
    table = [line for line in lines if line.startswith("|")]
    header = [part.strip() for part in table[0].strip("|").split("|")]
    rows = [
        [row[0], *row[2:]]
        for row in (
            [part.strip() for part in line.strip("|").split("|")]
            for line in table[2:]
        )
        if len(row) == len(header) and row[1] == "this run"
    ]
    return markdown([header[0], *header[2:]], rows)


def planted():
    """Accuracy on planted features beside what is predicted."""
    results = read("planted")
    rows = []
    for model in ("adversarial", "D_R", "standard", *NON_ROBUST):
        found, predicted = (
            results[key][model] for key in ("summary", "predicted")
        )
        row = [model]
        for column in ("clean", "pgd-l2-0.25"):
            row += [cell(found[column]), f"{predicted[column]:.0f}"]
        rows.append(row)
    header = ["trained on", "clean", "predicted", "L2 0.25", "predicted"]
    return markdown(header, rows)


def am207():
    """What each error of the AM207 report does on digits."""
    summary = read("digits/am207")["summary"]
    rows = [
        [error, *(cell(summary[model][column]) for model, column in places)]
        for error, places in ERRORS.items()
    ]
    return markdown(["error", "right", "with the error"], rows)


def best_settings():
    """Accuracy of the best setting of each optimizer on digits."""
    rows = []
    for name in SEARCHED:
        results = read(f"optimizer/digits/{name}")
        row = [name]
        for optimizer in OPTIMIZERS:
            best = results["best"][optimizer]
            low, high = (100 * end for end in best["interval"])
            mean = 100 * best["test_accuracy"]
            row.append(f"{mean:.1f} [{low:.1f}, {high:.1f}]")
        rows.append(row)
    return markdown(["trained on", *OPTIMIZERS.values()], rows)


def variance():
    """Shares of the variance of clean accuracy on digits."""
    factors = ("learning_rate", "optimizer", "seed and interactions")
    rows = []
    for name in SEARCHED:
        results = read(f"optimizer/digits/{name}")
        shares = [results["variance_explained"][one] for one in factors]
        percent = [f"{100 * share:.0f}" for share in shares]
        rows.append([name, str(len(results["runs"])), *percent])
    header = ["trained on", "trainings", "learning rate", "optimizer"]
    return markdown([*header, "seed, rest"], rows)


def learning_rates():
    """Clean accuracy by optimizer, learning rate and schedule on CIFAR-10."""
    columns = [
        (name, schedule)
        for name in ("D_rand", "D")
        for schedule in ("one_cycle", "late_drops")
    ]
    runs = {
        name: read(f"optimizer/cifar10/{name}")["runs"]
        for name in ("D_rand", "D")
    }
    rows = []
    for optimizer, title in OPTIMIZERS.items():
        rates = {
            run["learning_rate"]
            for run in runs["D_rand"]
            if run["optimizer"] == optimizer
        }
        for rate in sorted(rates):
            row = [title, f"{rate:g}"]
            for name, schedule in columns:
                setting = (optimizer, rate, schedule)
                row.append(_outcomes(runs[name], setting))
            rows.append(row)
    header = ["optimizer", "peak learning rate"]
    return markdown([*header, *(", ".join(one) for one in columns)], rows)


def _outcomes(runs, setting):
    """Accuracy of a setting, and how many of its two seeds are stuck."""
    found = [
        run
        for run in runs
        if (run["optimizer"], run["learning_rate"], run["schedule"]) == setting
    ]
    if not found:
        return ""
    stuck = sum(run["outcome"] == "stuck" for run in found)
    note = ("", ", one stuck", ", stuck")[stuck]
    return of_values([run["test_accuracy"] for run in found]) + note


def times(folder):
    """Mean seconds of the stages of each model over the seeds."""
    results = read(folder)
    seeds = results["seconds_by_seed_and_stage"].values()
    kinds = ("generating", "training", "evaluating")
    rows = []
    for model in results["models"]:
        row = [model]
        for kind in kinds:
            found = [seed.get(f"{kind}-{model}") for seed in seeds]
            known = None not in found
            row.append(f"{statistics.mean(found):.0f}" if known else "")
        rows.append(row)
    return markdown(["seconds", *kinds], rows)


def vae():
    """ELBOs by kind of image."""
    text = (RESULTS / "laboratory" / "vae" / "vae.md").read_text("utf-8")
    return "\n".join(line for line in text.splitlines() if line[:1] == "|")


TABLES = {
    "claims": claims,
    **{
        name: lambda folder=folder: replication(folder)
        for name, folder in REPLICATIONS.items()
        if name != "planted"
    },
    "seconds": lambda: times("cifar10/gpu"),
    "predicted": planted,
    "AM207 errors": am207,
    "optimizers, digits": best_settings,
    "variance, digits": variance,
    "optimizers, CIFAR-10": learning_rates,
    "vae": vae,
}


def rewritten(text):
    """A page with its tables made anew."""
    return BLOCK.sub(
        lambda block: (
            f"<!-- table {block[1]} -->\n\n{TABLES[block[1]]()}\n\n"
            "<!-- /table -->"
        ),
        text,
    )


if __name__ == "__main__":
    for page in PAGES:
        path = DOCS / page
        path.write_text(rewritten(path.read_text("utf-8")), "utf-8")
