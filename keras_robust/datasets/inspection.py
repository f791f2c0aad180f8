"""What a generated data set is, and whether it is what it says."""

import json
from pathlib import Path

import numpy as np

from keras_robust.datasets.moved import largest_move
from keras_robust.datasets.shard_folder import sha256

# Below this probability a distribution is not the one that it should be.
_IMPROBABLE = 1e-6
# Relative excess of a radius that is rounding in float32.
_ROUNDING = 1e-5


def find(directory):
    """Folders of generated data sets in a folder, or the folder itself.

    Args:
        directory: Folder.

    Returns:
        List of paths.

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


def inspect(directory, images=None, verbose=1):
    """Describes a generated data set and checks it against its definition.

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
    facts = _facts(description)
    checks = {
        "files": _check_files(folder, description),
        **_check_records(folder, records, description),
    }
    if images is not None:
        draw_grid(records, description, images)
    if verbose:
        _print(folder, facts, checks)
    return facts, checks


def _examples(folder, description):
    import tensorflow_datasets as tfds

    split = description["source"]["split"]
    builder = tfds.builder_from_directory(folder)
    if description["file_format"] == "array_record":
        return iter(builder.as_data_source(split=split))
    return builder.as_dataset(split=split).as_numpy_iterator()


def _records(folder, description):
    """Columns of all records, and the first few images."""
    keys = ("id", "label", "original_label", "start_id", "distance")
    columns = {key: [] for key in (*keys, "success")}
    low, high, shown = np.inf, -np.inf, []
    for example in _examples(folder, description):
        for key, column in columns.items():
            column.append(example[key])
        image = example["image"]
        low, high = min(low, image.min()), max(high, image.max())
        if len(shown) < 40:
            shown.append(image)
    arrays = {key: np.array(column) for key, column in columns.items()}
    return {**arrays, "low": float(low), "high": float(high), "shown": shown}


def _facts(description):
    source, found = description["source"], description["statistics"]
    count = found["examples"]
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
        "right labels": f"{found['label_is_original'] / count:.2%}",
        "success": f"{found['successes'] / count:.2%}",
        "distance": f"mean {found['distance_sum'] / count:.4g}, "
        f"largest {found['distance_max']:.4g}",
    }
    model = description["arguments"].get("model")
    if model:
        facts["model"] = (
            f"{model['name']}, {model['parameters']} parameters, weights "
            f"SHA-256 {model['weights_sha256']}"
        )
    return facts


def _check_files(folder, description):
    wrong = [
        shard["file"]
        for shard in description["shards"]
        if not (folder / shard["file"]).exists()
        or sha256(folder / shard["file"]) != shard["sha256"]
    ]
    found = ", ".join(wrong) or f"{len(description['shards'])} as written"
    return not wrong, found


def _check_records(folder, records, description):
    arguments = description["arguments"]
    checks = {
        "order": (
            bool((records["id"] == np.arange(len(records["id"]))).all())
            and len(records["id"]) == description["source"]["examples"],
            f"{len(records['id'])} records",
        )
    }
    low, high = arguments.get("value_range", (0.0, 1.0))
    if description["dtype"] == "uint8":
        low, high = 0, 255
    inside = low <= records["low"] and records["high"] <= high
    found = f"[{records['low']:.4g}, {records['high']:.4g}]"
    checks["box"] = (bool(inside), found)
    epsilon = arguments.get("epsilon")
    if epsilon is not None:
        largest, how = float(records["distance"].max()), "as recorded"
        if description["dtype"] == "float32":
            images = (
                example["image"] for example in _examples(folder, description)
            )
            moved = largest_move(images, description)
            if moved is not None:
                largest, how = moved, "from the source"
        checks["ball"] = (
            largest <= epsilon * (1 + _ROUNDING),
            f"{arguments['norm']} {largest:.6g} of {epsilon:g}, {how}",
        )
    checks["labels"] = _check_labels(records, description)
    return checks


def _check_labels(records, description):
    """The labels' distribution against the definition of the set."""
    label, original = records["label"], records["original_label"]
    classes = len(description["class_names"])
    kind = description["config"].removeprefix("shortcut_")
    same = float((label == original).mean())
    known = bool((original >= 0).all())
    if kind == "det" and known:
        passed = bool((label == (original + 1) % classes).all())
        return passed, "y + 1 for all" if passed else "not always y + 1"
    if kind == "rand":
        return _uniform(label, classes, "uniform over all classes")
    if kind == "other" and known:
        shift = (label - original) % classes - 1
        if (shift < 0).any():
            return False, f"{same:.2%} are the original label"
        return _uniform(shift, classes - 1, "uniform over the others")
    return bool(not known or same == 1), f"{same:.2%} are the original label"


def _uniform(values, categories, what):
    from scipy.stats import chisquare

    counts = np.bincount(values, minlength=categories)
    chance = float(chisquare(counts).pvalue)
    return chance > _IMPROBABLE, f"{what}: chi-square p = {chance:.3g}"


def draw_grid(records, description, path):
    """A grid of the first images with their labels.

    Args:
        records: What `_records` returned.
        description: Of the data set.
        path: Image file to write.
    """
    from matplotlib.figure import Figure

    names = description["class_names"]
    shown = records["shown"]
    lines = -(-len(shown) // 8)
    figure = Figure(figsize=(12, 1.8 * lines))
    panels = figure.subplots(lines, 8, squeeze=False).flat
    low, high = description["arguments"].get("value_range", (0.0, 1.0))
    if description["dtype"] == "uint8":
        low, high = 0, 255
    for axes in panels:
        axes.set_axis_off()
    for i, (axes, image) in enumerate(zip(panels, shown, strict=False)):
        image = (image.astype("float32") - low) / (high - low)
        axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
        title = names[records["label"][i]]
        first = records["original_label"][i]
        if first >= 0 and first != records["label"][i]:
            title += f"\n(was {names[first]})"
        axes.set_title(title, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _print(folder, facts, checks):
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
