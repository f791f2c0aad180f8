"""Attack, harden and dissect Keras models."""

from typing import TYPE_CHECKING

from keras_robust.startup import runs_command
from keras_robust.version import __version__ as __version__

if TYPE_CHECKING or not runs_command():
    from keras_robust import attacks as attacks
    from keras_robust import callbacks as callbacks
    from keras_robust import certify as certify
    from keras_robust import corruptions as corruptions
    from keras_robust import datasets as datasets
    from keras_robust import features as features
    from keras_robust import layers as layers
    from keras_robust import models as models
    from keras_robust import objectives as objectives
    from keras_robust import plot as plot
    from keras_robust import study as study
    from keras_robust import theory as theory
    from keras_robust import transforms as transforms
    from keras_robust.attacks import APGDAttack as APGDAttack
    from keras_robust.attacks import Attack as Attack
    from keras_robust.attacks import AutoAttack as AutoAttack
    from keras_robust.attacks import CarliniWagnerL2 as CarliniWagnerL2
    from keras_robust.attacks import DDNAttack as DDNAttack
    from keras_robust.attacks import FABAttack as FABAttack
    from keras_robust.attacks import FGSMAttack as FGSMAttack
    from keras_robust.attacks import FMNAttack as FMNAttack
    from keras_robust.attacks import HopSkipJumpAttack as HopSkipJumpAttack
    from keras_robust.attacks import NFGSMAttack as NFGSMAttack
    from keras_robust.attacks import PDPGDAttack as PDPGDAttack
    from keras_robust.attacks import PGDAttack as PGDAttack
    from keras_robust.attacks import SigmaZeroAttack as SigmaZeroAttack
    from keras_robust.attacks import SpatialAttack as SpatialAttack
    from keras_robust.attacks import SquareAttack as SquareAttack
    from keras_robust.classifier import Classifier as Classifier
    from keras_robust.evaluation import MinimumDistance as MinimumDistance
    from keras_robust.evaluation import RobustnessCurve as RobustnessCurve
    from keras_robust.evaluation import RobustnessReport as RobustnessReport
    from keras_robust.evaluation import TransferMatrix as TransferMatrix
    from keras_robust.evaluation import (
        evaluate_robustness as evaluate_robustness,
    )
    from keras_robust.evaluation import minimum_distance as minimum_distance
    from keras_robust.evaluation import robustness_curve as robustness_curve
    from keras_robust.evaluation import transfer_matrix as transfer_matrix
    from keras_robust.study import Study as Study
    from keras_robust.study import Training as Training
    from keras_robust.training import AdversarialModel as AdversarialModel
    from keras_robust.transforms import Mixture as Mixture
    from keras_robust.transforms import NonRobustifier as NonRobustifier
    from keras_robust.transforms import Robustifier as Robustifier
    from keras_robust.transforms import Shortcut as Shortcut
else:
    from keras_robust.startup import load_name

    __getattr__ = load_name
