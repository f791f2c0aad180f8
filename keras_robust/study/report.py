"""Reports of finished runs, made again from their numbers."""

import os
from pathlib import Path
from typing import Any

from keras_robust.study.optimizer import outputs as search_outputs
from keras_robust.study.replication import outputs
from keras_robust.utils.files import read_json


def report(folder: str | os.PathLike[str] = "replication") -> list[Path]:
    """Make the reports and figures of finished runs again.

    They are made from `results.json` alone, which is what is worth keeping of
    a run: no images, networks or training are needed. A gallery of training
    images is included where `images.png` still lies beside it.

    Args:
        folder: Output of `replicate`, `overview` or `sweep`, or a folder above
            several of them.

    Returns:
        The folders that were written to. In that of a replication: `table.md`,
        `bars`, `curves` and, where measured, `transfer` as PNG and SVG, and
        `report.html`. In that of a search: `table.md` and `accuracy` as PNG
        and SVG.

    Raises:
        ValueError: If there is no `results.json` in the folder or below it.

    Example:

    ```python
    keras_robust.study.report("results/digits")
    ```
    """
    paths = sorted(Path(folder).rglob("results.json"))
    # Other experiments have files of this name as well.
    found = [
        (path.parent, results)
        for path in paths
        if _is_of_a_run(results := read_json(path))
    ]
    if not found:
        raise ValueError(
            "Argument `folder` must hold the `results.json` of a replication "
            "or a search, or folders with it. "
            f"Received: folder={str(folder)!r}"
        )
    # Searches first: a replication's report shows the one below it.
    found.sort(key=lambda item: "search" not in item[1])
    for place, results in found:
        if "search" in results:
            search_outputs.write_drawn(results, place)
        else:
            outputs.write(results, place)
    return [place for place, _ in found]


def _is_of_a_run(results: Any) -> bool:
    """Whether the content of a file is that of a replication or a search."""
    return isinstance(results, dict) and bool(
        {"search", "claims"} & set(results)
    )
