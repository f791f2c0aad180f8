"""A frozen first convolution that whitens patches of images."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# As in the paper's code: 5,000 images have five million patches of CIFAR-10.
MAX_IMAGES = 5_000
# Images whose patches are in memory at a time, in float64.
_CHUNK = 500


@keras.saving.register_keras_serializable("keras_robust")
class PatchWhitening(keras.layers.Layer):
    """Convolution with the principal axes of patches, scaled to variance one.

    With the eigenvectors `v` and eigenvalues `l` of the covariance of the
    patches, the filters are `v / sqrt(l + epsilon)`, in order of decreasing
    eigenvalues, followed by the same filters with the opposite sign. So an
    activation after the layer sees both signs. The kernel is frozen, the bias
    is trained and starts at zero. Page 2018 ("How to train your ResNet 8");
    Jordan 2024 (arXiv:2404.00498, "Frozen patch-whitening initialization"),
    whose defaults these are.

    `adapt` computes the kernel. Before that it is the identity and its
    negative, which is right for patches that are white already; `is_adapted`
    distinguishes the two states. The kernel is a weight, saved and copied like
    any other.

    The paper's code takes second moments about zero, of images whose channels
    have mean zero. Here they are taken about the mean of the patches, which is
    the same for such images and also whitens others.

    Args:
        filters: Int, even, at most `2 * kernel_size**2 * C`; `None` for that
            many, 24 for 2x2 patches of RGB images. With fewer, the axes of
            least variance are left out.
        kernel_size: Int >= 1, height and width of a patch.
        epsilon: Float > 0, in squared units of the input; limits how much
            directions of little variance are amplified.
        bias_regularizer: Regularizer of the bias, as Keras takes it.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    ```python
    whitening = keras_robust.layers.PatchWhitening()
    whitening.adapt(x_train)
    ```
    """

    def __init__(
        self,
        filters: int | None = None,
        kernel_size: int = 2,
        epsilon: float = 5e-4,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if filters is not None and (filters < 2 or filters % 2):
            raise ValueError(
                "Argument `filters` must be an even integer >= 2, or None. "
                f"Received: filters={filters}"
            )
        if int(kernel_size) != kernel_size or kernel_size < 1:
            raise ValueError(
                "Argument `kernel_size` must be an integer >= 1. "
                f"Received: kernel_size={kernel_size}"
            )
        if not epsilon > 0:
            raise ValueError(
                "Argument `epsilon` must be a number > 0. "
                f"Received: epsilon={epsilon}"
            )
        self.filters = filters
        self.kernel_size = int(kernel_size)
        self.epsilon = epsilon
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: Any) -> None:
        """Create the kernel for white patches, and a bias of zeros.

        Args:
            input_shape: `(N, H, W, C)`.

        Raises:
            ValueError: If there are more `filters` than twice the size of a
                patch.
        """
        channels = input_shape[-1]
        most = 2 * self.kernel_size**2 * channels
        outputs = self._outputs(channels)
        if outputs > most:
            raise ValueError(
                "Argument `filters` must be at most 2 * kernel_size**2 * C = "
                f"{most} for {channels} channels. "
                f"Received: filters={self.filters}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, outputs),
            initializer=_unadapted,
            trainable=False,
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(outputs,),
            initializer="zeros",
            regularizer=self.bias_regularizer,
        )

    @property
    def is_adapted(self) -> bool:
        """Whether the kernel differs from the one at the start."""
        if not self.built:
            return False
        kernel = ops.convert_to_numpy(self.kernel)
        return not np.array_equal(kernel, _unadapted(kernel.shape))

    def adapt(self, images: Any) -> None:
        """Compute the kernel from the first 5,000 images.

        Args:
            images: Inputs of the layer, `(N, H, W, C)`: an array or tensor, or
                an iterable of batches, such as a `tf.data.Dataset`. Of tuples
                the first entry is taken.

        Raises:
            ValueError: If there are no images, or they have a wrong shape or
                are not finite.
        """
        count, total, products = 0, 0.0, 0.0
        for chunk in image_chunks(images):
            if not self.built:
                self.build((None, *chunk.shape[1:]))
            patches = self._patches(chunk)
            count += len(patches)
            total = total + patches.sum(axis=0)
            products = products + patches.T @ patches
        mean = total / max(count, 1)
        covariance = products / max(count, 1) - np.outer(mean, mean)
        if not count or not np.isfinite(covariance).all():
            raise ValueError(
                "Argument `images` must hold patches of finite numbers. "
                f"Received: {count} patches of mean {mean}"
            )
        self.kernel.assign(self._whitening(covariance))

    def _patches(self, images: np.ndarray) -> np.ndarray:
        """All patches as rows `(patches, kernel_size**2 * C)`, in float64."""
        size = self.kernel_size
        if min(images.shape[1:3]) < size or (
            images.shape[3] != self.kernel.shape[2]
        ):
            raise ValueError(
                f"Argument `images` must be of at least {size}x{size} pixels "
                f"with {self.kernel.shape[2]} channels. "
                f"Received: images of shape {images.shape[1:]}"
            )
        windows = np.lib.stride_tricks.sliding_window_view(
            images.astype("float64"), (size, size), axis=(1, 2)
        )
        # In the order of the kernel: height, width, channels.
        windows = np.moveaxis(windows, 3, -1)
        return windows.reshape(-1, size * size * images.shape[3])

    def _whitening(self, covariance: np.ndarray) -> np.ndarray:
        """The kernel for the covariance of patches."""
        half = self.kernel.shape[-1] // 2
        values, axes = np.linalg.eigh(covariance)
        values, axes = values[::-1][:half], axes[:, ::-1][:, :half]
        # The sign of an eigenvector is arbitrary: its largest entry is made
        # positive.
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.sign(axes[largest, np.arange(half)])
        axes = axes / np.sqrt(np.maximum(values, 0) + self.epsilon)
        kernel = np.concatenate([axes, -axes], axis=1)
        return kernel.reshape(self.kernel.shape)

    def call(self, x: Any) -> Any:
        """The whitened patches, `(N, H - k + 1, W - k + 1, filters)`."""
        h = ops.conv(
            x,
            self.kernel,
            strides=1,
            padding="valid",
            data_format="channels_last",
        )
        return h + ops.cast(self.bias, h.dtype)

    def compute_output_shape(
        self, input_shape: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """`(N, H - k + 1, W - k + 1, filters)`."""
        sizes = [
            None if size is None else size - self.kernel_size + 1
            for size in input_shape[1:3]
        ]
        return (input_shape[0], *sizes, self._outputs(input_shape[-1]))

    def _outputs(self, channels: int) -> int:
        return self.filters or 2 * self.kernel_size**2 * channels

    def get_config(self) -> dict[str, Any]:
        """Configuration of the layer."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "epsilon": self.epsilon,
            "bias_regularizer": keras.regularizers.serialize(
                self.bias_regularizer
            ),
        }


def image_chunks(images: Any) -> Iterator[np.ndarray]:
    """The first `MAX_IMAGES` images in chunks that fit into memory.

    Args:
        images: As in `PatchWhitening.adapt`.

    Yields:
        Arrays `(n, H, W, C)`, n at most 500, in the dtype of the images.

    Raises:
        ValueError: If they are not images of one shape.
    """
    is_array = hasattr(images, "shape")
    if not is_array and not isinstance(images, Iterable):
        raise ValueError(
            "Argument `images` must be an array (N, H, W, C), or batches of "
            f"such. Received: an object of type {type(images).__name__}"
        )
    left = MAX_IMAGES
    for batch in [images] if is_array else images:
        if isinstance(batch, (tuple, list)) and len(batch):
            batch = batch[0]
        batch = _as_numpy(batch[:left])
        if batch.ndim != 4:
            raise ValueError(
                "Argument `images` must have the shape (N, H, W, C). "
                f"Received: an array or batch of shape {batch.shape}"
            )
        for start in range(0, len(batch), _CHUNK):
            yield batch[start : start + _CHUNK]
        left -= len(batch)
        if left <= 0:
            return


def _as_numpy(batch: Any) -> np.ndarray:
    if ops.is_tensor(batch):
        return ops.convert_to_numpy(batch)
    return np.asarray(batch)


def _unadapted(shape: Sequence[int], dtype: Any = "float32") -> np.ndarray:
    """The kernel for white patches: the identity and its negative."""
    *_, filters = shape
    axes = np.eye(int(np.prod(shape[:-1])), filters // 2)
    return np.concatenate([axes, -axes], axis=1).reshape(shape).astype(dtype)
