"""How useful and how robust the features of a network are."""

from keras_robust.datasets import planted_features as planted_features
from keras_robust.features.layer_robustness import (
    layer_robustness as layer_robustness,
)
from keras_robust.features.linear_probes import linear_probes as linear_probes
from keras_robust.features.usefulness import (
    FeatureUsefulness as FeatureUsefulness,
)
from keras_robust.features.usefulness import (
    feature_usefulness as feature_usefulness,
)
