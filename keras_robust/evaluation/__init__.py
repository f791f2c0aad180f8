"""Robust accuracy: numbers, intervals, tables, figures."""

from keras_robust.evaluation.evaluate import (
    evaluate_robustness as evaluate_robustness,
)
from keras_robust.evaluation.evaluate import predict_labels as predict_labels
from keras_robust.evaluation.report import RobustnessReport as RobustnessReport
