"""A Keras model as attacks, evaluation and training see it."""

from keras_robust.classifier.backward import Backward as Backward
from keras_robust.classifier.classifier import (
    PREDICTION_DRAW as PREDICTION_DRAW,
)
from keras_robust.classifier.classifier import Classifier as Classifier
from keras_robust.classifier.fingerprint import weights_sha256 as weights_sha256
from keras_robust.classifier.flat_activations import (
    find_flat_activations as find_flat_activations,
)
from keras_robust.classifier.frozen import cached_weights as cached_weights
from keras_robust.classifier.frozen import call_frozen as call_frozen
from keras_robust.classifier.frozen import check_built as check_built
from keras_robust.classifier.frozen import inner_model as inner_model
from keras_robust.classifier.frozen_model import FrozenModel as FrozenModel
from keras_robust.classifier.scaling import SCALINGS as SCALINGS
