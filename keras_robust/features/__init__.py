"""The data sets of robust and of non-robust features."""

from keras_robust.features.non_robustifier import (
    NonRobustifier as NonRobustifier,
)
from keras_robust.features.robustifier import Robustifier as Robustifier
