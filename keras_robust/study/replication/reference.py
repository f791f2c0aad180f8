"""Published figures to compare with."""

import json
from importlib import resources
from typing import Any


def reference(dataset: str) -> dict[str, dict[str, Any]]:
    """Published figures for a data set, in per cent.

    Args:
        dataset: Name.

    Returns:
        Dictionary by publication, each with `publication`; empty where there is
        none.
    """
    path = resources.files("keras_robust.study.replication") / "reference.json"
    figures: dict[str, dict[str, dict[str, Any]]]
    figures = json.loads(path.read_text(encoding="utf-8"))
    return figures.get(dataset, {})
