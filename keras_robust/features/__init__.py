"""The data sets of robust and of non-robust features."""

from keras_robust.datasets import planted_features as planted_features
from keras_robust.features.feature_usefulness import (
    FeatureUsefulness as FeatureUsefulness,
)
from keras_robust.features.layer_robustness import (
    layer_robustness as layer_robustness,
)
from keras_robust.features.linear_probes import linear_probes as linear_probes
from keras_robust.features.mixture import Mixture as Mixture
from keras_robust.features.non_robustifier import (
    NonRobustifier as NonRobustifier,
)
from keras_robust.features.robustifier import Robustifier as Robustifier
from keras_robust.features.shortcut import Shortcut as Shortcut
from keras_robust.features.usefulness import (
    feature_usefulness as feature_usefulness,
)
