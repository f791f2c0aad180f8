"""Networks of the papers, and a small one. All of them return logits."""

from keras_robust.classifier.views import (
    representation_view as representation_view,
)
from keras_robust.models.airbench import adapt_whitening as adapt_whitening
from keras_robust.models.airbench import airbench as airbench
from keras_robust.models.cifar_resnet import cifar_resnet as cifar_resnet
from keras_robust.models.ensemble import ensemble as ensemble
from keras_robust.models.mlp import mlp as mlp
from keras_robust.models.parts import fake_relu_copy as fake_relu_copy
from keras_robust.models.resnet9 import resnet9 as resnet9
from keras_robust.models.resnet50 import resnet50 as resnet50
from keras_robust.models.small_cnn import small_cnn as small_cnn
