"""Images whose robust and non-robust features are known."""

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from typing import Any

import numpy as np

from keras_robust.datasets.image_dataset import ImageDataset
from keras_robust.utils.messages import shown

KINDS = ("robust", "non_robust")


@dataclass(frozen=True)
class PlantedFeatures(ImageDataset):
    """Images made of two templates, with the accuracy that each can give.

    An image is grey, plus a robust template, plus a non-robust one, plus
    Gaussian noise. Each template is that of the label with the reliability of
    its kind, else that of another class, drawn uniformly and independently of
    the other kind. Templates are orthogonal, of one norm per kind.

    Attributes:
        templates: Dictionary by kind, `"robust"` and `"non_robust"`, of float
            arrays `(C, H, W, 1)`.
        reliabilities: Dictionary of floats by kind.
        noise: Float, standard deviation per pixel.
    """

    templates: dict[str, np.ndarray] = field(default_factory=dict)
    reliabilities: dict[str, float] = field(default_factory=dict)
    noise: float = 0.0

    def accuracy(self, kind: str, epsilon: float = 0.0) -> float:
        """Accuracy of the best rule that reads one kind of template only.

        It names the class whose template has the largest inner product with
        the image. An L2 attack of radius epsilon takes at most `sqrt(2) a
        epsilon` from the margin to another class, a the templates' norm. With
        scores in units of a, s the noise over a, and z normal, the rule is
        right on images that show the label's template with probability `E
        Phi(z + (1 - sqrt(2) epsilon / a) / s)^(C - 1)`, on others with `E
        Phi(z - (1 + sqrt(2) epsilon / a) / s) Phi(z - sqrt(2) epsilon / (a
        s))^(C - 2)`. The box is left out: grey and templates stay inside it.

        Args:
            kind: One of `KINDS`.
            epsilon: L2 radius of the attack, in units of images in [0, 1].

        Returns:
            Fraction.
        """
        classes = len(self.templates[kind])
        norm = np.linalg.norm(self.templates[kind][0])
        deviation = self.noise / norm
        away = 2**0.5 * epsilon / norm
        right = _expected_product([((1 - away) / deviation, classes - 1)])
        wrong = _expected_product(
            [(-(1 + away) / deviation, 1), (-away / deviation, classes - 2)],
        )
        reliability = self.reliabilities[kind]
        return float(reliability * right + (1 - reliability) * wrong)

    @property
    def most_useful(self) -> str:
        """The kind with the larger accuracy, unattacked.

        Where the noise is small, nothing is gained by reading both kinds:
        where they differ, the more reliable one is right more often, and
        where they agree, they predict the same class.
        """
        return max(KINDS, key=self.accuracy)


def planted_features(
    train: int = 5_000,
    test: int = 1_000,
    size: int = 16,
    num_classes: int = 10,
    robust_norm: float = 2.0,
    non_robust_norm: float = 0.2,
    robust_reliability: float = 0.7,
    non_robust_reliability: float = 0.98,
    noise: float = 0.01,
    seed: int | None = 0,
) -> PlantedFeatures:
    """Draw images with planted features.

    So that every claim of Ilyas et al. 2019 has a known answer: networks
    should use the small, reliable template unless they are trained against
    attacks that are larger than it; D_R should hold the large template only,
    and D_NR, D_rand and D_det teach the small one only. The larger
    `robust_norm` is against twice the attack's radius, the less of a robust
    template an attack removes.

    Args:
        train: Int, training images.
        test: Int, test images.
        size: Int, height and width.
        num_classes: Int >= 2, at most `size**2 / 2`.
        robust_norm: L2 norm of robust templates, in units of images in [0, 1].
        non_robust_norm: That of the others.
        robust_reliability: Share of the images whose robust template is that
            of the label.
        non_robust_reliability: The same of the others.
        noise: Standard deviation of the noise, per pixel, > 0.
        seed: Int.

    Returns:
        `PlantedFeatures`.

    Raises:
        ValueError: If norms, noise, reliabilities or sizes are out of range.

    Example:

    ```python
    planted = keras_robust.features.planted_features()
    (x, y), (x_test, y_test) = planted
    planted.accuracy("non_robust"), planted.accuracy("non_robust", 0.5)
    ```
    """
    reliabilities = {
        "robust": robust_reliability,
        "non_robust": non_robust_reliability,
    }
    norms = {"robust": robust_norm, "non_robust": non_robust_norm}
    _check(reliabilities, norms, noise, size, num_classes)
    random = np.random.default_rng(seed)
    pixels = size * size
    basis, _ = np.linalg.qr(random.normal(size=(pixels, 2 * num_classes)))
    shape = (num_classes, size, size, 1)
    templates = {
        kind: (norms[kind] * part.T).reshape(shape).astype("float32")
        for kind, part in zip(KINDS, np.hsplit(basis, 2), strict=True)
    }
    draw = partial(
        _draw,
        reliabilities=reliabilities,
        random=random,
        templates=templates,
        noise=noise,
    )
    return PlantedFeatures(
        draw(train),
        draw(test),
        tuple(str(label) for label in range(num_classes)),
        templates,
        reliabilities,
        noise,
    )


def _draw(
    count: int,
    reliabilities: Mapping[str, float],
    random: np.random.Generator,
    templates: Mapping[str, np.ndarray],
    noise: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` images and their labels."""
    classes, size = templates["robust"].shape[:2]
    y = random.permutation(np.arange(count) % classes)
    x = 0.5 + noise * random.normal(size=(count, size, size, 1))
    for kind in KINDS:
        other = (y + random.integers(1, classes, count)) % classes
        right = random.random(count) < reliabilities[kind]
        x += templates[kind][np.where(right, y, other)]
    return np.clip(x, 0, 1).astype("float32"), y.astype("int32")


def _expected_product(factors: Iterable[tuple[Any, int]]) -> float:
    """`E prod_i Phi(z + b_i)^n_i` for normal z, by quadrature."""
    from scipy.stats import norm

    z, step = np.linspace(-9, 9, 4001, retstep=True)
    log = sum(power * norm.logcdf(z + shift) for shift, power in factors)
    return float((norm.pdf(z) * np.exp(log)).sum() * step)


def _check(
    reliabilities: Mapping[str, float],
    norms: Mapping[str, float],
    noise: float,
    size: int,
    num_classes: int,
) -> None:
    if not (min(*norms.values(), noise) > 0 and num_classes >= 2):
        raise ValueError(
            "Norms and noise must be > 0 and `num_classes` >= 2. Received: "
            f"norms={shown(norms)}, noise={noise}, num_classes={num_classes}"
        )
    if not all(0 <= share <= 1 for share in reliabilities.values()):
        raise ValueError(
            "Reliabilities must be in [0, 1]. Received: "
            f"reliabilities={shown(reliabilities)}"
        )
    if 2 * num_classes > size * size:
        raise ValueError(
            "Argument `size` must leave a pixel for each of the templates, "
            f"two per class. Received: size={size}, num_classes={num_classes}"
        )
