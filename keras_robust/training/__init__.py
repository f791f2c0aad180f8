"""Training on adversarial examples."""

from keras_robust.training.adversarial_model import (
    AdversarialModel as AdversarialModel,
)
