"""Training objectives: what `fit` of an `AdversarialModel` minimizes."""

from keras_robust.objectives.ikl import IKL as IKL
from keras_robust.objectives.logit_pairing import LogitPairing as LogitPairing
from keras_robust.objectives.mart import MART as MART
from keras_robust.objectives.mixed import Mixed as Mixed
from keras_robust.objectives.trades import TRADES as TRADES
from keras_robust.objectives.training_objective import (
    TrainingObjective as TrainingObjective,
)
