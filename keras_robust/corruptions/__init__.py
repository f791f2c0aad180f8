"""Common corruptions of images: noise, blur, weather, digital."""

from keras_robust.corruptions.cifar10_c import load_cifar10_c as load_cifar10_c
from keras_robust.corruptions.corruptions import CORRUPTIONS as CORRUPTIONS
from keras_robust.corruptions.corruptions import SEVERITIES as SEVERITIES
from keras_robust.corruptions.corruptions import Corruptions as Corruptions
from keras_robust.corruptions.corruptions import corrupt as corrupt
