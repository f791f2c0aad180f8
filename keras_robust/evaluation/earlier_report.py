"""Keeps the report of other settings that a folder already has."""

import json
import pathlib
from collections.abc import Sequence

from keras_robust.evaluation.provenance import fingerprint
from keras_robust.evaluation.result import EvaluationResult

# Digits of the name of a report that is kept.
_DIGITS = 8
_ENDINGS = (".json", ".png", ".html")


def check_folder(folder: pathlib.Path) -> None:
    """Check that a report can be written, before it is made.

    Args:
        folder: Where to write; it need not be there.

    Raises:
        ValueError: If something else is in the way.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"Argument `--output` must be a folder. Received: {folder}, a file"
        )
    for ending in _ENDINGS:
        path = folder / f"report{ending}"
        if path.is_dir():
            raise ValueError(
                "Argument `--output` must be a folder for report.json, "
                f"report.png and report.html. Received: {folder}, where "
                f"{path.name} is a folder"
            )


def write_report(
    folder: pathlib.Path,
    report: EvaluationResult,
    class_names: Sequence[str] | None = None,
) -> str | None:
    """Write `report.json`, `report.png` and `report.html`.

    A report of other settings that is there already is kept under another
    name, which the settings decide; one of the same settings is replaced.

    Args:
        folder: Where to write.
        report: A report or a curve.
        class_names: Names of the classes, for the pictures.

    Returns:
        The name under which an earlier report is kept, or `None`.
    """
    path, kept = folder / "report.json", None
    now = _key(report.to_json())
    before = _key(path.read_bytes()) if path.exists() else now
    if before != now:
        _rename(folder, "report", f"report-{before}")
        kept = f"report-{before}.json"
    for ending in _ENDINGS:
        # The report of these settings gets its first name back.
        (folder / f"report-{now}{ending}").unlink(missing_ok=True)
    report.to_json(path)
    report.plot(folder / "report.png")
    report.to_html(folder / "report.html", class_names)
    return kept


def _rename(folder: pathlib.Path, old: str, new: str) -> None:
    for ending in _ENDINGS:
        path = folder / f"{old}{ending}"
        if path.exists():
            path.replace(folder / f"{new}{ending}")


def _key(text: str | bytes) -> str:
    """A hash of the settings in the text or the bytes of a report."""
    try:
        facts = json.loads(text)["provenance"]
    except (ValueError, TypeError, KeyError):
        # Not written by this package.
        facts = text if isinstance(text, str) else text.hex()
    return fingerprint(facts)[:_DIGITS]
