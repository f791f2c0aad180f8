"""Attacks: who moves the input."""

from keras_robust.attacks.apgd import APGDAttack as APGDAttack
from keras_robust.attacks.auto_attack import AutoAttack as AutoAttack
from keras_robust.attacks.carlini_wagner import (
    CarliniWagnerL2 as CarliniWagnerL2,
)
from keras_robust.attacks.fab import FABAttack as FABAttack
from keras_robust.attacks.fgsm import FGSMAttack as FGSMAttack
from keras_robust.attacks.pgd import PGDAttack as PGDAttack
from keras_robust.attacks.radii import matched_epsilon as matched_epsilon
from keras_robust.attacks.spatial import SpatialAttack as SpatialAttack
from keras_robust.attacks.square import SquareAttack as SquareAttack
