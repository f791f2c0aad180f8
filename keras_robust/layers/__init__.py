"""Layers that Keras does not have."""

from keras_robust.layers.fake_relu import FakeReLU as FakeReLU
from keras_robust.layers.pad_and_crop import PadAndCrop as PadAndCrop
from keras_robust.layers.residual_block import ResidualBlock as ResidualBlock
