"""Description and checks of a generated data set."""

import json
import os
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust.datasets.generation.indexed_source import IndexedSource
from keras_robust.datasets.generation.planned_labels import Finding
from keras_robust.datasets.generation.planned_labels import check_planned_labels
from keras_robust.datasets.generation.shard_folder import sha256
from keras_robust.datasets.pixels import value_range_of
from keras_robust.datasets.tfds import examples_of

# Relative excess of a radius that is rounding in float32.
_ROUNDING = 1e-5
# Images that are compared with their source at once.
_BATCH = 500
# Images of the picture.
_SHOWN = 40
# NumPy's orders of the norms of perturbations.
_ORDERS = {"l1": 1, "l2": 2, "linf": np.inf}
_UNKNOWN = "not known"


def find(directory: str | os.PathLike[str]) -> list[Path]:
    """Find the generated data sets in a folder, or the folder itself.

    Args:
        directory: Folder.

    Returns:
        Paths of their folders.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = sorted(Path(directory).rglob("description.json"))
    if not found:
        raise FileNotFoundError(
            "The folder must hold a generated data set, finished, with its "
            f"description.json. Received: {str(directory)!r}"
        )
    return [path.parent for path in found]


def inspect(
    directory: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> tuple[dict[str, str], dict[str, Finding]]:
    """Describe a generated data set and check it against its definition.

    Args:
        directory: Folder of one data set, with its `description.json`.
        images: Where to write a grid of images with their labels, or `None`.
        verbose: 0 for no table.

    Returns:
        `(facts, checks)`: dictionaries by name; a check is `(passed, what was
        found)`.
    """
    folder = Path(directory)
    description = json.loads(
        (folder / "description.json").read_text(encoding="utf-8")
    )
    records = _records(folder, description)
    facts = _facts(records, description)
    checks = {
        "files": _check_files(folder, description),
        **_check_records(folder, records, description),
    }
    if images is not None:
        draw_grid(records, description, images)
    if verbose:
        _print(folder, facts, checks)
    return facts, checks


def _examples(folder: Path, description: Mapping[str, Any]) -> Iterator[Any]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    return examples_of(builder, description["source"]["split"])


def _records(folder: Path, description: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of all records, and the first few images."""
    keys = ("id", "label", "original_label", "start_id", "distance")
    columns: dict[str, list[Any]] = {key: [] for key in (*keys, "success")}
    least: Any = np.inf
    most: Any = -np.inf
    shown: list[np.ndarray] = []
    for example in _examples(folder, description):
        for key, column in columns.items():
            column.append(example[key])
        image = example["image"]
        least, most = np.minimum(least, image), np.maximum(most, image)
        if len(shown) < _SHOWN:
            shown.append(image)
    arrays = {key: np.array(column) for key, column in columns.items()}
    return {**arrays, "least": least, "most": most, "shown": shown}


def _facts(
    records: Mapping[str, Any], description: Mapping[str, Any]
) -> dict[str, str]:
    source, found = description["source"], description["statistics"]
    count = found["examples"]
    # Of released sets these are not known, and stored as -1.
    knows_labels = bool((records["original_label"] >= 0).all())
    knows_distances = bool((records["distance"] >= 0).all())
    arguments = {
        key: value
        for key, value in description["arguments"].items()
        if not isinstance(value, dict)
    }
    facts = {
        "name": f"{description['name']}/{description['config']}",
        "made by": description["transform"],
        "arguments": ", ".join(f"{k}={v}" for k, v in arguments.items()),
        "source": f"{source['name']} {source['version'] or ''} "
        f"{source['split']}, {source['examples']} images",
        "stored as": f"{description['dtype']}, {description['file_format']}, "
        f"{len(description['shards'])} shards",
        "backend": f"{description['backend']}, "
        + ", ".join(f"{k} {v}" for k, v in description["versions"].items()),
        "labels per class": " ".join(map(str, found["class_counts"])),
        "right labels": f"{found['label_is_original'] / count:.2%}"
        if knows_labels
        else _UNKNOWN,
        "success": f"{found['successes'] / count:.2%}"
        if knows_distances
        else _UNKNOWN,
        "distance": f"mean {found['distance_sum'] / count:.4g}, "
        f"largest {found['distance_max']:.4g}"
        if knows_distances
        else _UNKNOWN,
    }
    model = description["arguments"].get("model")
    if model:
        facts["model"] = (
            f"{model['name']}, {model['parameters']} parameters, weights "
            f"SHA-256 {model['weights_sha256']}"
        )
    return facts


def _check_files(folder: Path, description: Mapping[str, Any]) -> Finding:
    wrong = [
        shard["file"]
        for shard in description["shards"]
        if not (folder / shard["file"]).exists()
        or sha256(folder / shard["file"]) != shard["sha256"]
    ]
    found = ", ".join(wrong) or f"{len(description['shards'])} as written"
    return not wrong, found


def _check_records(
    folder: Path, records: Mapping[str, Any], description: Mapping[str, Any]
) -> dict[str, Finding]:
    checks: dict[str, Finding] = {
        "order": (
            bool((records["id"] == np.arange(len(records["id"]))).all())
            and len(records["id"]) == description["source"]["examples"],
            f"{len(records['id'])} records",
        )
    }
    low, high = _stored_range(description)
    # Entry by entry: a range may be a row of bounds.
    inside = (low <= records["least"]).all() and (records["most"] <= high).all()
    found = f"[{records['least'].min():.4g}, {records['most'].max():.4g}]"
    checks["box"] = (bool(inside), found)
    arguments = description["arguments"]
    # A transform of the user may have a radius of another kind.
    if arguments.get("epsilon") is not None and (
        arguments.get("norm") in _ORDERS
    ):
        checks["ball"] = _check_ball(folder, records, description)
    checks["labels"] = check_planned_labels(
        records["label"], records["original_label"], description
    )
    return checks


def _check_ball(
    folder: Path, records: Mapping[str, Any], description: Mapping[str, Any]
) -> Finding:
    """Check that no perturbation is larger than the radius."""
    arguments = description["arguments"]
    # Of a radius for each feature, the largest.
    epsilon = float(np.max(arguments["epsilon"]))
    largest, how = float(records["distance"].max()), "as recorded"
    if description["dtype"] == "float32":
        images = (
            example["image"] for example in _examples(folder, description)
        )
        measured = largest_perturbation(images, description)
        if measured is not None:
            largest, how = measured, "from the source"
    found = f"{arguments['norm']} {largest:.6g} of {epsilon:g}, {how}"
    return largest <= epsilon * (1 + _ROUNDING), found


def _stored_range(description: Mapping[str, Any]) -> tuple[Any, Any]:
    """The range `(low, high)` of stored pixels, as float32."""
    low, high = value_range_of(description)
    return np.float32(low), np.float32(high)


def draw_grid(
    records: Mapping[str, Any],
    description: Mapping[str, Any],
    path: str | os.PathLike[str],
) -> None:
    """Draw a grid of the first images with their labels.

    Args:
        records: What `_records` returned.
        description: Of the data set.
        path: Image file to write.
    """
    from matplotlib.figure import Figure

    from keras_robust.plot.images import as_picture

    names = description["class_names"]
    shown = records["shown"]
    lines = -(-len(shown) // 8)
    figure = Figure(figsize=(12, 1.8 * lines))
    # A list, since an iterator would be used up by the first loop.
    panels = list(figure.subplots(lines, 8, squeeze=False).flat)
    low, high = _stored_range(description)
    if not np.isfinite(high - low).all():
        low, high = np.min(shown), max(np.max(shown), np.min(shown) + 1e-6)
    for axes in panels:
        axes.set_axis_off()
    for i, (axes, image) in enumerate(zip(panels, shown, strict=False)):
        scaled = (image.astype("float32") - low) / (high - low)
        picture = as_picture(np.clip(scaled, 0, 1).reshape(image.shape))
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        title = names[records["label"][i]]
        first = records["original_label"][i]
        if first >= 0 and first != records["label"][i]:
            title += f"\n(was {names[first]})"
        axes.set_title(title, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _print(
    folder: Path, facts: Mapping[str, str], checks: Mapping[str, Finding]
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(folder), show_header=False)
    for key, value in facts.items():
        table.add_row(key, value)
    for key, (passed, found) in checks.items():
        table.add_row(
            f"check: {key}", f"{'ok' if passed else 'WRONG'}: {found}"
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table)


def largest_perturbation(
    images: Iterable[np.ndarray], description: Mapping[str, Any]
) -> float | None:
    """Measure the largest norm of a perturbation, from the images themselves.

    Args:
        images: Iterable of stored images, float32, in source order.
        description: Of the data set.

    Returns:
        Float; `None` where the source cannot be read here, or has changed.
    """
    source, arguments = description["source"], description["arguments"]
    if source["version"] is None and source["name"] != "digits":
        return None
    order = _ORDERS[arguments["norm"]]
    largest = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        try:
            original = IndexedSource.open(
                source["name"],
                scratch,
                split=source["split"],
                examples=source["examples"],
                value_range=arguments["value_range"],
            )
            if original.description() != source:
                return None
        except Exception:  # TFDS raises many kinds where there is no network.
            return None
        rows = iter(range(len(original)))
        for batch in _batches(images):
            chosen = np.array([next(rows) for _ in batch])
            step = np.stack(batch) - original[chosen]
            flat = step.reshape(len(step), -1)
            size = np.linalg.norm(flat, ord=order, axis=1)
            largest = max(largest, float(size.max()))
    return largest


def _batches(images: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for image in images:
        batch.append(image)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
