"""The published corrupted images of CIFAR-10."""

import numpy as np

from keras_robust.datasets.sources import to_arrays
from keras_robust.datasets.tfds import load_tfds
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown


def load_cifar10_c(name: str, severity: int) -> tuple[np.ndarray, np.ndarray]:
    """Load CIFAR-10-C, through TFDS `cifar10_corrupted`.

    Hendrycks & Dietterich 2019 (arXiv:1903.12261): the test images of CIFAR-10
    under 19 corruptions, of which `corrupt` draws ten anew.

    Args:
        name: Name of a corruption in TFDS, such as `"fog"` or `"frost"`.
        severity: Int from 1 to 5.

    Returns:
        `(x, y)`: float32 images `(10000, 32, 32, 3)` in [0, 1] and int32
        labels.

    Raises:
        ValueError: If there is no such corruption.
        FileNotFoundError: If the data set is not prepared and cannot be
            downloaded.

    Example:

    ```python
    x, y = keras_robust.corruptions.load_cifar10_c("fog", severity=3)
    report = keras_robust.evaluate_robustness(model, (x, y), "square")
    ```
    """
    import tensorflow_datasets as tfds

    configs = tfds.builder_cls("cifar10_corrupted").builder_configs
    if f"{name}_{severity}" not in configs:
        known = sorted({config.rpartition("_")[0] for config in configs})
        raise ValueError(
            f"The corruption must be one of {known}, its severity from 1 to 5."
            f"{did_you_mean(name, known)} "
            f"Received: name={shown(name)}, severity={shown(severity)}"
        )
    (test,) = load_tfds(
        f"cifar10_corrupted/{name}_{severity}", splits=("test",)
    )
    return to_arrays(test)
