"""Training on adversarial examples."""

from keras_robust.training import directions
from keras_robust.training.adversarial_model import (
    AdversarialModel as AdversarialModel,
)
from keras_robust.training.schedules import EpsilonSchedule as EpsilonSchedule
from keras_robust.training.schedules import LinearWarmup as LinearWarmup

directions.register()
