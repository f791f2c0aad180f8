"""Transforms of data sets: images with robust or non-robust features."""

from keras_robust.transforms.batch import Batch as Batch
from keras_robust.transforms.batch import Made as Made
from keras_robust.transforms.batch import Plan as Plan
from keras_robust.transforms.inversion_frames import (
    InversionFrames as InversionFrames,
)
from keras_robust.transforms.mixture import Mixture as Mixture
from keras_robust.transforms.non_robustifier import (
    NonRobustifier as NonRobustifier,
)
from keras_robust.transforms.robustifier import Robustifier as Robustifier
from keras_robust.transforms.shortcut import Shortcut as Shortcut
from keras_robust.transforms.transform import Transform as Transform
