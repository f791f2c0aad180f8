"""Certified robustness: radii in which no perturbation changes the answer."""

from keras_robust.certify.interval_bounds import (
    interval_bounds as interval_bounds,
)
from keras_robust.certify.interval_model import IntervalModel as IntervalModel
from keras_robust.certify.interval_network import (
    IntervalNetwork as IntervalNetwork,
)
from keras_robust.certify.result import IntervalResult as IntervalResult
from keras_robust.certify.result import SmoothingResult as SmoothingResult
from keras_robust.certify.smoothing import (
    SmoothedClassifier as SmoothedClassifier,
)
from keras_robust.certify.smoothing import clopper_pearson as clopper_pearson
from keras_robust.certify.smoothing import (
    randomized_smoothing as randomized_smoothing,
)
