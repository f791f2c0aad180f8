"""The table of a study that was stopped: what is finished of it.

    python results/finished.py STAGES --output results/NAME

Reads the evaluations in `stages` of a run's folder, all seeds, and writes
`evaluations.json` and `table.md`: mean and standard deviation over the seeds,
in per cent. Prints the table.
"""

import argparse
import json
import statistics
from pathlib import Path

# Of every attack the worst for an image: no attack by itself.
LEFT_OUT = ("worst case",)


def main() -> None:
    """Write what is finished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    found = evaluations(options.stages)
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1) + "\n"
    (options.output / "evaluations.json").write_text(text, encoding="utf-8")
    lines = "\n".join(table(found)) + "\n"
    (options.output / "table.md").write_text(lines, encoding="utf-8")
    print(lines)


def evaluations(stages: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracies by model, seed and attack.

    Args:
        stages: Folder with a folder of stages for each seed.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted(stages.glob("seed*/evaluation-*.json")):
        model = path.stem.removeprefix("evaluation-").rpartition("-")[0]
        seed = path.parent.name.partition("-")[0].removeprefix("seed")
        kept = json.loads(path.read_text(encoding="utf-8"))
        seeds = found.setdefault(model, {})
        if seed in seeds:
            raise ValueError(
                "Stages must hold one evaluation for each model and seed; "
                "remove those of other settings. "
                f"Received: two of {model}, seed {seed}, the second in {path}"
            )
        seeds[seed] = kept["accuracy"]
    return found


def table(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """The rows as Markdown.

    Args:
        found: What `evaluations` returns.
    """
    first = next(iter(next(iter(found.values())).values()))
    columns = [name for name in first if name not in LEFT_OUT]
    lines = [
        "| " + " | ".join(["trained on", *columns]) + " |",
        "|" + " --- |" * (1 + len(columns)),
    ]
    for model, seeds in sorted(found.items()):
        cells = [model]
        for column in columns:
            values = [100 * seed[column] for seed in seeds.values()]
            cell = f"{statistics.mean(values):.1f}"
            if len(values) > 1:
                cell += f" ± {statistics.stdev(values):.1f}"
            cells.append(cell)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
