"""Section 4 of Ilyas et al. 2019: adversarial robustness of Gaussians."""

from keras_robust.theory.alignment import minimal_cosine as minimal_cosine
from keras_robust.theory.alignment import worst_direction as worst_direction
from keras_robust.theory.exact_game import exact_robust_fit as exact_robust_fit
from keras_robust.theory.gaussian_logits import GaussianLogits as GaussianLogits
from keras_robust.theory.gaussian_model import GaussianModel as GaussianModel
from keras_robust.theory.robust_fit import RobustFit as RobustFit
from keras_robust.theory.robust_fit import (
    multiplier_bounds as multiplier_bounds,
)
from keras_robust.theory.robust_fit import robust_fit as robust_fit
from keras_robust.theory.vulnerability import (
    optimal_perturbation as optimal_perturbation,
)
from keras_robust.theory.vulnerability import vulnerability as vulnerability
