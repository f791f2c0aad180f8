"""Padding and a random crop, drawn for every example."""

import numbers
from typing import Any

import keras

from keras_robust import backend
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

# Fill modes of `RandomTranslation`.
_FILL_MODES = ("constant", "reflect", "wrap", "nearest")


def check_fill_mode(fill_mode: Any) -> None:
    """Check the fill mode.

    Args:
        fill_mode: See `PadAndCrop`.

    Raises:
        ValueError: If it is unknown.
    """
    if not isinstance(fill_mode, str) or fill_mode not in _FILL_MODES:
        raise ValueError(
            f"Argument `fill_mode` must be one of {_FILL_MODES}."
            f"{did_you_mean(fill_mode, _FILL_MODES)} "
            f"Received: fill_mode={shown(fill_mode)}"
        )


@keras.saving.register_keras_serializable("keras_robust")
class PadAndCrop(keras.layers.RandomTranslation):
    """Pads images and crops back to the same size, per example.

    The augmentation of He et al. 2016 (arXiv:1512.03385, section 4.2).
    Padding by `p` and cropping is a shift by a whole number of pixels in
    `-p ... p` that brings in zeros, so this is Keras's `RandomTranslation`
    with its shifts rounded. Keras's `RandomCrop` does not pad. Works in a
    `tf.data` pipeline on every backend.

    Jordan 2024 (arXiv:2404.00498) pads with reflections. Those of PyTorch leave
    out the pixel at the edge, those of Keras repeat it.

    Args:
        padding: Int >= 0, pixels on each side.
        seed: Int or `None`.
        fill_mode: Values of the padding: `"constant"` (zeros), `"reflect"`, or
            another fill mode of `RandomTranslation`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:

    ```python
    dataset = dataset.map(lambda x, y: (crop(x, training=True), y))
    ```
    """

    def __init__(
        self,
        padding: int = 4,
        seed: int | None = None,
        fill_mode: str = "constant",
        **kwargs: Any,
    ) -> None:
        if not isinstance(padding, numbers.Real) or (
            int(padding) != padding or padding < 0
        ):
            raise ValueError(
                "Argument `padding` must be an integer >= 0. "
                f"Received: padding={shown(padding)}"
            )
        check_fill_mode(fill_mode)
        super().__init__(
            height_factor=1.0,
            width_factor=1.0,
            fill_mode=fill_mode,
            interpolation="nearest",
            seed=seed,
            **kwargs,
        )
        self.padding: int = int(padding)
        # Keras runs models with a `RandomTranslation` operation by operation,
        # which only XLA under TensorFlow needs.
        self.supports_jit: bool = backend.compiles_image_transforms

    def get_random_transformation(
        self, data: Any, training: bool = True, seed: int | None = None
    ) -> Any:
        """Whole-pixel shifts, uniform over `-padding ... padding`."""
        transformation = super().get_random_transformation(
            data, training=training, seed=seed
        )
        if transformation is None:
            return None
        shape = transformation["input_shape"]
        first = self.data_format == "channels_first"
        height, width = shape[-2 if first else -3], shape[-1 if first else -2]
        size = self.backend.cast(
            self.backend.numpy.stack([width, height]), "float32"
        )
        # The base class draws uniformly from (-size, size).
        shift = transformation["translations"] / size * (self.padding + 0.5)
        transformation["translations"] = self.backend.numpy.round(shift)
        return transformation

    def get_config(self) -> dict[str, Any]:
        """Configuration of the layer."""
        config = super().get_config()
        for name in (
            "height_factor",
            "width_factor",
            "interpolation",
            "fill_value",
        ):
            config.pop(name, None)
        return {**config, "padding": self.padding}
