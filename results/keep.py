"""Keeps what tables and claims stand on of a finished run.

    python results/keep.py OUTPUT results/NAME [--curves]

copies `results.json`, without spaces, with curves of five digits and, of an
optimizer search, without the curve of every training (`--curves` keeps them),
and `table.md`. Everything else is made from that: `keras-robust report
results/NAME`.
"""

import argparse
import json
from pathlib import Path


def compact(results, curves=False):
    """The JSON of a run: a line for each of its parts and trainings."""
    lines = []
    for key, value in results.items():
        if key == "runs" and isinstance(value, list):
            if not curves:
                value = [
                    {name: run[name] for name in run if name != "curve"}
                    for run in value
                ]
            text = "[\n" + ",\n".join(map(_line, value)) + "\n]"
        else:
            text = _line(value)
        lines.append(f"{_line(key)}:{text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value):
    value = _short(value)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _short(value, is_curve=False):
    """The same, what is only drawn with five digits."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if is_curve else value
    if isinstance(value, dict):
        return {
            key: _short(each, is_curve or key == "curve")
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_short(each, is_curve) for each in value]
    return value


def keep(source, target, curves=False):
    """Copies table and compact results from one folder to another."""
    results = json.loads((source / "results.json").read_text("utf-8"))
    table = (source / "table.md").read_text("utf-8")
    target.mkdir(parents=True, exist_ok=True)
    (target / "results.json").write_text(compact(results, curves), "utf-8")
    (target / "table.md").write_text(table, "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--curves", action="store_true")
    keep(**vars(parser.parse_args()))
