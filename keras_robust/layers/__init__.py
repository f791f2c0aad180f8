"""Layers and an initializer that Keras does not have."""

from keras_robust.layers.dirac import Dirac as Dirac
from keras_robust.layers.fake_relu import FakeReLU as FakeReLU
from keras_robust.layers.pad_and_crop import PadAndCrop as PadAndCrop
from keras_robust.layers.patch_whitening import PatchWhitening as PatchWhitening
from keras_robust.layers.residual_block import ResidualBlock as ResidualBlock
from keras_robust.layers.straight_through import (
    straight_through as straight_through,
)
