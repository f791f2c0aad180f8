"""Attack, harden and dissect Keras models."""

from keras_robust import attacks as attacks
from keras_robust import datasets as datasets
from keras_robust import layers as layers
from keras_robust import models as models
from keras_robust import study as study
from keras_robust.attacks import APGDAttack as APGDAttack
from keras_robust.attacks import FABAttack as FABAttack
from keras_robust.attacks import FGSMAttack as FGSMAttack
from keras_robust.attacks import PGDAttack as PGDAttack
from keras_robust.attacks import SquareAttack as SquareAttack
from keras_robust.evaluation import RobustnessReport as RobustnessReport
from keras_robust.evaluation import evaluate_robustness as evaluate_robustness
from keras_robust.features import NonRobustifier as NonRobustifier
from keras_robust.features import Robustifier as Robustifier
from keras_robust.training import AdversarialModel as AdversarialModel
from keras_robust.version import __version__ as __version__
