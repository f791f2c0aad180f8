"""Keeps the report of other settings that a folder already has."""

import json
import pathlib

from keras_robust.evaluation.provenance import fingerprint
from keras_robust.evaluation.result import EvaluationResult

# Digits of the name of a report that is kept.
_DIGITS = 8
_ENDINGS = (".json", ".png")


def write_report(folder: pathlib.Path, report: EvaluationResult) -> str | None:
    """Write `report.json` and `report.png`.

    A report of other settings that is there already is kept under another
    name, which the settings decide; one of the same settings is replaced.

    Args:
        folder: Where to write.
        report: A report or a curve.

    Returns:
        The name under which an earlier report is kept, or `None`.
    """
    path, kept = folder / "report.json", None
    now = _key(report.to_json())
    before = _key(path.read_text("utf-8")) if path.exists() else now
    if before != now:
        _rename(folder, "report", f"report-{before}")
        kept = f"report-{before}.json"
    for ending in _ENDINGS:
        # The report of these settings goes back to its first name.
        (folder / f"report-{now}{ending}").unlink(missing_ok=True)
    report.to_json(path)
    report.figure(folder / "report.png")
    return kept


def _rename(folder, old, new):
    for ending in _ENDINGS:
        path = folder / f"{old}{ending}"
        if path.exists():
            path.replace(folder / f"{new}{ending}")


def _key(text):
    """What tells settings apart, of the text of a report."""
    try:
        facts = json.loads(text)["provenance"]
    except (ValueError, TypeError, KeyError):
        # Not written by this package.
        facts = text
    return fingerprint(facts)[:_DIGITS]
