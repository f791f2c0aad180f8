"""The replication: recipes, cached stages, table and figures."""

from keras_robust.study.optimizer_search import (
    OptimizerSearch as OptimizerSearch,
)
from keras_robust.study.optimizer_space import OptimizerSpace as OptimizerSpace
from keras_robust.study.overview import overview as overview
from keras_robust.study.plateau_monitor import PlateauMonitor as PlateauMonitor
from keras_robust.study.recipe import Recipe as Recipe
from keras_robust.study.recipe import Training as Training
from keras_robust.study.recipes import get_recipe as get_recipe
from keras_robust.study.replicate import replicate as replicate
from keras_robust.study.replication import Replication as Replication
from keras_robust.study.sweep import sweep as sweep
from keras_robust.study.training_sets import MODELS as MODELS
