"""Threats: balls of a norm, spatial transformations, common corruptions."""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.grid import grid_of
from keras_robust.attacks.image_attack import channels_first
from keras_robust.attacks.spatial import SpatialAttack
from keras_robust.corruptions import Corruptions
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.data import Examples
from keras_robust.utils.progress import Progress

# Stands for all corruptions at all severities.
CORRUPTIONS = "corruptions"
# Which examples are right, by severity, by corruption.
CorruptedRight = dict[str, dict[int, np.ndarray]]


def split_corruptions(
    attacks: Any, value_range: Any = None
) -> tuple[Any, Corruptions | None]:
    """Take corruptions out of the attacks of an evaluation.

    Args:
        attacks: What `evaluate_robustness` takes.
        value_range: `(low, high)` of corruptions that have none; `None` for
            (0, 1).

    Returns:
        The same without corruptions, and these.

    Raises:
        ValueError: If there are several.
    """
    left: Any
    if isinstance(attacks, (str, Corruptions)):
        found, left = _split({"": attacks})
    elif isinstance(attacks, dict):
        found, left = _split(attacks)
    elif isinstance(attacks, (list, tuple)):
        found, rest = _split(dict(enumerate(attacks)))
        left = list(rest.values())
    else:
        return attacks, None
    if not found:
        return attacks, None
    if len(found) > 1:
        raise ValueError(
            "Argument `attacks` must hold corruptions once, with all names and "
            f"severities. Received: {len(found)} of them"
        )
    (chosen,) = found
    if chosen.value_range is None and value_range is not None:
        fields = {**vars(chosen), "value_range": value_range}
        chosen = Corruptions(**fields)
    return left, chosen


def _split(
    attacks: dict[Any, Any],
) -> tuple[list[Corruptions], dict[Any, Any]]:
    found, left = [], {}
    for name, attack in attacks.items():
        if isinstance(attack, str) and attack == CORRUPTIONS:
            found.append(Corruptions())
        elif isinstance(attack, Corruptions):
            found.append(attack)
        else:
            left[name] = attack
    return found, left


class CorruptionRun:
    """Predictions of corrupted images.

    Args:
        examples: `Examples`.
        corruptions: Which corruptions.
        batch_size: Int >= 1, images that are corrupted and predicted at once.

    Raises:
        ValueError: If the images cannot be corrupted.
    """

    def __init__(
        self, examples: Examples, corruptions: Corruptions, batch_size: int
    ) -> None:
        self._examples = examples
        self._corruptions = corruptions
        self._batch_size = batch_size
        image = examples.image
        self._channels_first = image.ndim == 4 and channels_first(
            examples.classifier, image.shape, corruptions.data_format
        )
        is_scaled = examples.classifier.outputs.scaling is not None
        if is_scaled and corruptions.box != (0, 1):
            raise ValueError(
                "With `scaling`, images are in [0, 1], so that corruptions "
                "must have value_range=(0, 1). "
                f"Received: value_range={corruptions.box}"
            )
        corruptions.check(image, self._channels_first)

    def run(
        self, checkpoint: Checkpoint | None, verbose: int
    ) -> CorruptedRight:
        """Corrupt and predict all examples.

        Args:
            checkpoint: State of the evaluation, or `None`.
            verbose: 0 for no progress bar.

        Returns:
            By corruption and severity bool arrays `(N,)`: which examples are
            classified correctly.
        """
        chosen, count = self._corruptions, len(self._examples.y)
        total = len(chosen.names) * len(chosen.severities) * count
        progress = Progress(total, verbose, "corrupted image")
        found: CorruptedRight = {}
        for name in chosen.names:
            section = None
            if checkpoint:
                section = checkpoint.section(f"corruption {name}")
            saved = section.restore() if section else None
            if saved is None:
                saved = {
                    str(severity): self._right(name, severity, progress)
                    for severity in chosen.severities
                }
                if section:
                    section.save(force=True, **saved)
            found[name] = {
                severity: np.asarray(saved[str(severity)], bool)
                for severity in chosen.severities
            }
        return found

    def _right(
        self, name: str, severity: int, progress: Progress
    ) -> np.ndarray:
        """Which examples the model classifies correctly, `(N,)`."""
        examples, labels = self._examples, []
        grid = grid_of(examples.classifier, examples.image)
        for start in range(0, len(examples.y), self._batch_size):
            rows = np.arange(
                start, min(start + self._batch_size, len(examples.y))
            )
            image = self._corruptions.apply(
                examples.image[rows],
                name,
                severity,
                rows=rows,
                channels_first=self._channels_first,
            )
            if grid is not None:
                image = grid * np.round(image / grid)
            labels.append(examples.predict(image, rows, self._batch_size))
            progress.add(len(rows))
        right: np.ndarray = np.concatenate(labels) == examples.y
        return right


def threats_of(attacks: Mapping[str, Attack]) -> dict[str, list[str]]:
    """The names of the attacks of each threat.

    Args:
        attacks: Attacks by name, with the numbers that they run with.

    Returns:
        Dictionary: by threat, such as `"l2 0.5"`, the names of its attacks.
    """
    found: dict[str, list[str]] = {}
    for name, attack in attacks.items():
        found.setdefault(_threat_of(name, attack), []).append(name)
    return found


def _threat_of(name: str, attack: Attack) -> str:
    if isinstance(attack, SpatialAttack):
        return "spatial"
    norm = getattr(attack, "norm", None)
    if norm is None:
        return name
    if attack.epsilon is None:
        return f"{norm}, any distance"
    if np.ndim(attack.epsilon):
        smallest, largest = np.min(attack.epsilon), np.max(attack.epsilon)
        return f"{norm} {smallest:.4g} to {largest:.4g}"
    return f"{norm} {attack.epsilon:.4g}"


def threat_accuracy(
    correct: Mapping[str, np.ndarray],
    threats: Mapping[str, Iterable[str]],
    corrupted: CorruptedRight,
) -> dict[str, float]:
    """Accuracy under each threat, their mean and the worst of them.

    Args:
        correct: Bool arrays `(N,)` by attack, with `"clean"`.
        threats: Names of attacks by threat. An example counts if it survives
            all of them.
        corrupted: Bool arrays `(N,)` by severity, by corruption. All count
            alike.

    Returns:
        Dictionary of floats in [0, 1], with `"mean"` and `"worst"`; empty
        where there is a single threat.
    """
    found = {
        threat: float(
            np.logical_and.reduce(
                [correct["clean"], *(correct[name] for name in names)]
            ).mean()
        )
        for threat, names in threats.items()
    }
    if corrupted:
        found[CORRUPTIONS] = corruption_mean(corrupted)
    if len(found) < 2:
        return {}
    values = list(found.values())
    return {**found, "mean": float(np.mean(values)), "worst": min(values)}


def corruption_mean(corrupted: CorruptedRight) -> float:
    """Mean accuracy over corruptions and severities."""
    return float(
        np.mean(
            [
                right.mean()
                for by_severity in corrupted.values()
                for right in by_severity.values()
            ]
        )
    )


def described_corruptions(corruptions: Corruptions | None) -> dict[str, Any]:
    """What the provenance of an evaluation says of corruptions."""
    if corruptions is None:
        return {}
    facts = {**vars(corruptions), "value_range": corruptions.box}
    return {"corruptions": facts}
