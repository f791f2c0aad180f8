"""Attacks, and the base classes of user-defined attacks."""

from keras_robust.attacks.apgd import APGDAttack as APGDAttack
from keras_robust.attacks.attack import Attack as Attack
from keras_robust.attacks.auto_attack import AutoAttack as AutoAttack
from keras_robust.attacks.carlini_wagner import (
    CarliniWagnerL2 as CarliniWagnerL2,
)
from keras_robust.attacks.ddn import DDNAttack as DDNAttack
from keras_robust.attacks.engine.gradient_loop import (
    GradientLoop as GradientLoop,
)
from keras_robust.attacks.engine.gradient_loop import (
    ProjectedLoop as ProjectedLoop,
)
from keras_robust.attacks.engine.loop import Candidate as Candidate
from keras_robust.attacks.engine.loop import Inputs as Inputs
from keras_robust.attacks.engine.loop import Loop as Loop
from keras_robust.attacks.engine.loop import State as State
from keras_robust.attacks.engine.loop import keep_better as keep_better
from keras_robust.attacks.engine.search import Batch as Batch
from keras_robust.attacks.engine.search import Run as Run
from keras_robust.attacks.fab import FABAttack as FABAttack
from keras_robust.attacks.fgsm import FGSMAttack as FGSMAttack
from keras_robust.attacks.fmn import FMNAttack as FMNAttack
from keras_robust.attacks.function_attack import (
    FunctionAttack as FunctionAttack,
)
from keras_robust.attacks.function_attack import from_function as from_function
from keras_robust.attacks.hop_skip_jump import (
    HopSkipJumpAttack as HopSkipJumpAttack,
)
from keras_robust.attacks.loop_attack import LoopAttack as LoopAttack
from keras_robust.attacks.n_fgsm import NFGSMAttack as NFGSMAttack
from keras_robust.attacks.objectives import LabelObjective as LabelObjective
from keras_robust.attacks.objectives import margin as margin
from keras_robust.attacks.own_batch import AttackBatch as AttackBatch
from keras_robust.attacks.pdpgd import PDPGDAttack as PDPGDAttack
from keras_robust.attacks.pgd import PGDAttack as PGDAttack
from keras_robust.attacks.problem import Problem as Problem
from keras_robust.attacks.radii import matched_epsilon as matched_epsilon
from keras_robust.attacks.registry import get_attack as get_attack
from keras_robust.attacks.sigma_zero import SigmaZeroAttack as SigmaZeroAttack
from keras_robust.attacks.spatial import SpatialAttack as SpatialAttack
from keras_robust.attacks.square import SquareAttack as SquareAttack
