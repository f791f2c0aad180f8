"""The replication, and the optimizer search on the data sets it makes."""

from keras_robust.study.optimizer.hopeless import StopHopeless as StopHopeless
from keras_robust.study.optimizer.results import SweepResults as SweepResults
from keras_robust.study.optimizer.search import (
    OptimizerSearch as OptimizerSearch,
)
from keras_robust.study.optimizer.space import OptimizerSpace as OptimizerSpace
from keras_robust.study.optimizer.sweep import sweep as sweep
from keras_robust.study.plateau_monitor import PlateauMonitor as PlateauMonitor
from keras_robust.study.replication.recipes import get_recipe as get_recipe
from keras_robust.study.replication.replicate import overview as overview
from keras_robust.study.replication.replicate import replicate as replicate
from keras_robust.study.replication.replication import (
    Replication as Replication,
)
from keras_robust.study.replication.training_sets import MODELS as MODELS
from keras_robust.study.replication.training_sets import OwnSet as OwnSet
from keras_robust.study.report import report as report
from keras_robust.study.results import StudyResults as StudyResults
from keras_robust.study.study import Study as Study
from keras_robust.study.training import Training as Training

# What a study with tuned numbers is called.
Recipe = Study
