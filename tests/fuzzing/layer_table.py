"""Every layer of `keras.layers` that takes images, sequences or vectors.

Kinds of tensors, without the batch axis: `"image"` (H, W, C), `"sequence"`
(T, D), `"vector"` (D,), `"volume"` (D, H, W, C), `"any"`.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from . import blocks
from . import foreign
from . import makers
from .makers import plain
from .makers import unit_range

BACKENDS = ("tensorflow", "jax", "torch")


@dataclass(frozen=True)
class Entry:
    """How to make a layer.

    Args:
        takes: Kind of its input.
        make: Callable `(draw, shape) -> Layer or Block`.
        backends: Where Keras runs it in `predict`.
        channels: `None`, or how many it needs.
        flat: Whether its gradient is zero nearly everywhere.
        half: Whether Keras runs it in 16 bit on every backend.
    """

    takes: str
    make: Any
    backends: tuple = BACKENDS
    channels: int | None = None
    flat: bool = False
    half: bool = True


def _entries(takes, makers, **options):
    return {
        name: Entry(takes, make, **options) for name, make in makers.items()
    }


_ANY = {
    "Activation": makers.any_activation,
    "ActivityRegularization": plain(layers.ActivityRegularization, l2=0.1),
    "AlphaDropout": plain(layers.AlphaDropout, 0.3),
    "BatchNormalization": makers.batch_normalization,
    "Dense": makers.dense,
    "Dropout": plain(layers.Dropout, 0.5),
    "ELU": plain(layers.ELU, 0.7),
    "EinsumDense": makers.einsum_dense,
    "Flatten": plain(layers.Flatten),
    "GaussianDropout": plain(layers.GaussianDropout, 0.3),
    "GaussianNoise": plain(layers.GaussianNoise, 0.3),
    "GroupNormalization": makers.group_normalization,
    "Identity": plain(layers.Identity),
    "Lambda": makers.function,
    "LayerNormalization": makers.layer_normalization,
    "LeakyReLU": plain(layers.LeakyReLU, negative_slope=0.2),
    "Normalization": makers.normalization,
    "PReLU": plain(layers.PReLU),
    "RMSNormalization": plain(layers.RMSNormalization),
    "ReLU": plain(layers.ReLU, max_value=1.0, negative_slope=0.1),
    "Rescaling": plain(layers.Rescaling, 2.0, -1.0),
    "Softmax": plain(layers.Softmax),
    "UnitNormalization": plain(layers.UnitNormalization),
}
_ANY |= {
    name: blocks.merging(getattr(layers, name))
    for name in (
        *("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply"),
        "Subtract",
    )
}
_IMAGE = {
    "AdaptiveAveragePooling2D": makers.adaptive(
        layers.AdaptiveAveragePooling2D
    ),
    "AdaptiveMaxPooling2D": makers.adaptive(layers.AdaptiveMaxPooling2D),
    "AveragePooling2D": makers.pooling(layers.AveragePooling2D),
    "CenterCrop": makers.center_crop,
    "Conv2D": makers.conv_2d,
    "Conv2DTranspose": makers.transposed(layers.Conv2DTranspose),
    "ConvLSTM1D": makers.conv_lstm(layers.ConvLSTM1D),
    "Cropping2D": makers.cropping(layers.Cropping2D),
    "DepthwiseConv2D": makers.depthwise(layers.DepthwiseConv2D),
    "GlobalAveragePooling2D": plain(layers.GlobalAveragePooling2D),
    "GlobalMaxPooling2D": plain(layers.GlobalMaxPooling2D),
    "MaxPooling2D": makers.pooling(layers.MaxPooling2D),
    "Permute": makers.permute,
    "Pipeline": makers.pipeline,
    "RandomCrop": makers.random_crop,
    "Reshape": makers.reshape,
    "Resizing": makers.resizing,
    "SeparableConv2D": makers.separable(layers.SeparableConv2D),
    "SpatialDropout2D": plain(layers.SpatialDropout2D, 0.4),
    "SpectralNormalization": makers.spectral,
    "UpSampling2D": makers.up_sampling,
    "ZeroPadding2D": plain(layers.ZeroPadding2D, ((1, 0), (0, 2))),
}
_PLAIN_RANDOM = {
    "CutMix": plain(layers.CutMix),
    "MixUp": plain(layers.MixUp),
    "RandomFlip": plain(layers.RandomFlip),
    "RandomPerspective": plain(layers.RandomPerspective),
    "RandomRotation": plain(layers.RandomRotation, 0.2),
    "RandomShear": plain(layers.RandomShear, 0.2),
    "RandomTranslation": plain(layers.RandomTranslation, 0.2, 0.2),
    "RandomZoom": plain(layers.RandomZoom, 0.2),
}
_RANDOM_IN_RANGE = {
    "RandomBrightness": unit_range(layers.RandomBrightness, factor=0.2),
    "RandomContrast": unit_range(layers.RandomContrast, factor=0.4),
    "RandomElasticTransform": unit_range(layers.RandomElasticTransform),
    "RandomErasing": unit_range(layers.RandomErasing),
    "RandomGaussianBlur": unit_range(layers.RandomGaussianBlur),
    "RandomInvert": unit_range(layers.RandomInvert),
    "RandomPosterization": unit_range(layers.RandomPosterization, factor=4),
    "RandomSharpness": unit_range(layers.RandomSharpness, factor=0.5),
    "Solarization": unit_range(layers.Solarization, threshold_factor=0.5),
}
_COLOUR = {
    "AugMix": unit_range(layers.AugMix),
    "RandAugment": unit_range(layers.RandAugment),
    "RandomColorDegeneration": unit_range(
        layers.RandomColorDegeneration, factor=0.5
    ),
    "RandomColorJitter": unit_range(
        layers.RandomColorJitter, brightness_factor=0.2
    ),
    "RandomGrayscale": plain(layers.RandomGrayscale, 0.5),
    "RandomHue": unit_range(layers.RandomHue, factor=0.2),
    "RandomSaturation": unit_range(layers.RandomSaturation, factor=0.5),
}
_FLAT_IMAGE = {
    "AutoContrast": unit_range(layers.AutoContrast),
    "ContrastLimitedAdaptiveHistogramEqualization": unit_range(
        layers.ContrastLimitedAdaptiveHistogramEqualization,
        tile_grid_size=(2, 2),
    ),
    "Equalization": unit_range(layers.Equalization),
}
_SEQUENCE = {
    "AdaptiveAveragePooling1D": makers.adaptive(
        layers.AdaptiveAveragePooling1D
    ),
    "AdaptiveMaxPooling1D": makers.adaptive(layers.AdaptiveMaxPooling1D),
    "AdditiveAttention": blocks.attention(layers.AdditiveAttention),
    "Attention": blocks.attention(layers.Attention),
    "AveragePooling1D": makers.pooling(layers.AveragePooling1D),
    "Bidirectional": makers.bidirectional,
    "Conv1D": makers.conv_1d,
    "Conv1DTranspose": makers.transposed(layers.Conv1DTranspose),
    "Cropping1D": makers.cropping(layers.Cropping1D),
    "DepthwiseConv1D": makers.depthwise(layers.DepthwiseConv1D),
    "Dot": blocks.dot,
    "GRU": makers.recurrent(layers.GRU),
    "GlobalAveragePooling1D": plain(layers.GlobalAveragePooling1D),
    "GlobalMaxPooling1D": plain(layers.GlobalMaxPooling1D),
    "GroupQueryAttention": blocks.grouped,
    "LSTM": makers.recurrent(layers.LSTM),
    "Masking": blocks.masked,
    "MaxPooling1D": makers.pooling(layers.MaxPooling1D),
    "MultiHeadAttention": blocks.multi_head,
    "RNN": makers.rnn,
    "SeparableConv1D": makers.separable(layers.SeparableConv1D),
    "SimpleRNN": makers.recurrent(layers.SimpleRNN),
    "SpatialDropout1D": plain(layers.SpatialDropout1D, 0.4),
    "TimeDistributed": makers.time_distributed,
    "UpSampling1D": plain(layers.UpSampling1D, 2),
    "ZeroPadding1D": plain(layers.ZeroPadding1D, (1, 2)),
}
_VECTOR = {
    "MelSpectrogram": plain(
        layers.MelSpectrogram,
        fft_length=4,
        sequence_stride=2,
        num_mel_bins=3,
        sampling_rate=16,
        min_freq=0.0,
    ),
    "RepeatVector": plain(layers.RepeatVector, 3),
}
_VOLUME = {
    "AdaptiveAveragePooling3D": makers.adaptive(
        layers.AdaptiveAveragePooling3D
    ),
    "AdaptiveMaxPooling3D": makers.adaptive(layers.AdaptiveMaxPooling3D),
    "AveragePooling3D": makers.pooling(layers.AveragePooling3D),
    "Conv3D": makers.conv_3d,
    "Conv3DTranspose": makers.transposed(layers.Conv3DTranspose),
    "ConvLSTM2D": makers.conv_lstm(layers.ConvLSTM2D),
    "ConvLSTM3D": blocks.conv_lstm_3d,
    "Cropping3D": makers.cropping(layers.Cropping3D),
    "GlobalAveragePooling3D": plain(layers.GlobalAveragePooling3D),
    "GlobalMaxPooling3D": plain(layers.GlobalMaxPooling3D),
    "MaxPooling3D": makers.pooling(layers.MaxPooling3D),
    "SpatialDropout3D": plain(layers.SpatialDropout3D, 0.4),
    "UpSampling3D": plain(layers.UpSampling3D, 2),
    "ZeroPadding3D": plain(layers.ZeroPadding3D, 1),
}
TABLE = {
    **_entries("any", _ANY),
    **_entries("image", _IMAGE),
    **_entries("image", _PLAIN_RANDOM),
    **_entries("image", _RANDOM_IN_RANGE),
    **_entries("image", _COLOUR, channels=3),
    **_entries("image", _FLAT_IMAGE, flat=True),
    **_entries("sequence", _SEQUENCE),
    **_entries("vector", _VECTOR, half=False),
    # PyTorch pools no volume in bfloat16.
    **_entries("volume", _VOLUME, half=False),
    "STFTSpectrogram": Entry(
        "sequence",
        plain(layers.STFTSpectrogram, frame_length=3, fft_length=4),
        channels=1,
        half=False,
    ),
    "Discretization": Entry("any", makers.discretization, flat=True),
    "JaxLayer": Entry("vector", foreign.jax_layer, backends=("jax",)),
    "TorchModuleWrapper": Entry(
        "vector", foreign.torch_module, backends=("torch",)
    ),
}

# Of inputs that are held fixed: whole numbers from 0 to 4.
TOKENS = {
    "CategoryEncoding": lambda: layers.CategoryEncoding(5, "multi_hot"),
    "Embedding": lambda: layers.Embedding(5, 3),
    "Hashing": lambda: layers.Hashing(4, output_mode="multi_hot"),
    "IntegerLookup": lambda: layers.IntegerLookup(
        vocabulary=[0, 1, 2, 3, 4], output_mode="multi_hot"
    ),
    "ReversibleEmbedding": lambda: layers.ReversibleEmbedding(5, 3),
}
EXCLUDED = {
    "FlaxLayer": "needs the package flax",
    "GRUCell": "a part of RNN, which is in the table",
    "HashedCrossing": "takes two columns of identifiers, no numbers",
    "InputLayer": "every model has one",
    "InputSpec": "no layer",
    "LSTMCell": "a part of RNN, which is in the table",
    "Layer": "the base class; `blocks` has subclasses of it",
    "MaxNumBoundingBoxes": "takes bounding boxes, no images",
    "SimpleRNNCell": "a part of RNN, which is in the table",
    "StackedRNNCells": "a part of RNN, which is in the table",
    "StringLookup": "takes text",
    "TFSMLayer": "takes a folder of a saved TensorFlow program",
    "TextVectorization": "takes text",
    "Wrapper": "the base class of wrappers, which are in the table",
}


def layer_classes():
    """Public layer classes of Keras by name; aliases are other names."""
    found = {}
    for name in sorted(dir(keras.layers)):
        kind = getattr(keras.layers, name)
        if isinstance(kind, type):
            found[name] = kind
    return found


def available(takes=None):
    """Names of the table for this backend, or of those that take a kind."""
    backend = keras.backend.backend()
    return [
        name
        for name, entry in TABLE.items()
        if backend in entry.backends and takes in (None, entry.takes, "any")
    ]
