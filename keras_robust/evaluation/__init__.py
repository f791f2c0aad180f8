"""Robust accuracy: numbers, intervals, flags, tables, figures."""

from keras_robust.attacks.registry import get_attack as get_attack
from keras_robust.evaluation.curve import RobustnessCurve as RobustnessCurve
from keras_robust.evaluation.curve import robustness_curve as robustness_curve
from keras_robust.evaluation.distances import MinimumDistance as MinimumDistance
from keras_robust.evaluation.distances import (
    minimum_distance as minimum_distance,
)
from keras_robust.evaluation.evaluate import (
    evaluate_robustness as evaluate_robustness,
)
from keras_robust.evaluation.evaluate import predict_labels as predict_labels
from keras_robust.evaluation.flags import Flag as Flag
from keras_robust.evaluation.matrix import TransferMatrix as TransferMatrix
from keras_robust.evaluation.optimality import (
    attack_optimality as attack_optimality,
)
from keras_robust.evaluation.report import RobustnessReport as RobustnessReport
from keras_robust.evaluation.transfer import transfer_matrix as transfer_matrix
