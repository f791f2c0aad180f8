"""Minimum-norm attacks of this package and of others, on the same model.

    pip install foolbox==3.3.4 adv-lib==0.2.8
    pip install --no-deps torchattacks==3.5.1
    pip install --no-deps adversarial-robustness-toolbox==1.20.1

`all_attacks` gives each as a function of a Keras model on the torch backend,
NumPy images (channels last) and labels, which returns images. Libraries that
are not installed are left out. Settings are the defaults of each library but
for the number of steps.
"""

import functools
import importlib
import importlib.util
import math
import sys
from unittest import mock

import numpy as np
import torch
from keras import ops
from peers import channels_first
from peers import torch_tensors

import keras_robust as kr

ORDER = {"l0": 0, "l1": 1, "l2": 2, "linf": math.inf}
# Some attacks call the model once more before or after their steps.
SPARE_PASSES = 20
# Weights that attacks with a binary search try.
SEARCH_STEPS = 9


def ours(attack, model, x, y):
    """An attack of this package."""
    return attack(model, x, y, verbose=0)


def torch_attack(run, model, x, y):
    """A function of a torch module, images (channels first) and labels."""
    images, labels = torch_tensors(x, y)
    moved = run(channels_first(model), images, labels)
    return np.moveaxis(ops.convert_to_numpy(moved), 1, -1)


def foolbox_attack(attack, model, images, labels):
    """An attack of foolbox."""
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
    _, clipped, _ = attack(wrapped, images, labels, epsilons=None)
    return clipped


def art_attack(make, model, images, labels):
    """An attack of ART on its estimator."""
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=model.inner.output_shape[-1],
        clip_values=(0, 1),
        device_type="cpu" if images.device.type == "cpu" else "gpu",
    )
    return make(estimator).generate(
        ops.convert_to_numpy(images), ops.convert_to_numpy(labels)
    )


def torchattacks_attack(make, model, images, labels):
    """An attack of torchattacks."""
    return make(model)(images, labels)


def our_attacks(norm, steps, classes):
    """Our attacks of a norm, by name."""
    # A step of FAB evaluates its result; without a target it takes a gradient
    # for each class.
    single = 2 * steps // (2 * classes + 1)
    targets = min(9, classes - 1)
    found = {"fmn": kr.FMNAttack(norm, steps=steps)}
    if norm == "l0":
        found["sigma-zero"] = kr.SigmaZeroAttack(steps=steps)
        return found
    if norm == "l1":
        found["pdpgd"] = kr.PDPGDAttack(steps=steps)
    found["fab"] = kr.FABAttack(norm, steps=single)
    found["fab-t"] = kr.FABAttack(
        norm, steps=2 * steps // (3 * targets), targets=targets
    )
    if norm == "l2":
        found["ddn"] = kr.DDNAttack(steps=steps)
        found["carlini-wagner"] = kr.CarliniWagnerL2(
            steps=steps // SEARCH_STEPS, search_steps=SEARCH_STEPS
        )
    return found


def import_adv_lib():
    """The attacks of adv-lib, or `None` without it.

    It imports packages for drawing and for vision models, which none of the
    attacks here uses; stand-ins take their place where they are missing. It
    also imports distutils, which since Python 3.12 setuptools provides.
    """
    if importlib.util.find_spec("adv_lib") is None:
        return None
    if sys.version_info >= (3, 12):
        importlib.import_module("setuptools")
    for name in ("visdom", "torchvision", "tqdm"):
        missing = name not in sys.modules and not importlib.util.find_spec(name)
        if missing:
            sys.modules[name] = mock.MagicMock()
    return importlib.import_module("adv_lib.attacks")


def adv_lib_attacks(norm, steps):
    """Attacks of adv-lib, by name."""
    attacks = import_adv_lib()
    if attacks is None:
        return {}
    order = ORDER[norm]
    partial = functools.partial
    found = {"fmn": partial(attacks.fmn, norm=order, steps=steps)}
    if norm == "l0":
        found["sigma-zero"] = partial(attacks.sigma_zero, num_steps=steps)
        # Of its authors' two operators for L0 the one that they prefer.
        found["pdpgd"] = partial(
            attacks.pdpgd, norm=0, proximal_operator=23, num_steps=steps
        )
        return found
    found["pdpgd"] = partial(attacks.pdpgd, norm=order, num_steps=steps)
    if norm in ("l1", "l2"):
        found["alma"] = partial(attacks.alma, distance=norm, num_steps=steps)
    if norm == "l2":
        found["ddn"] = partial(attacks.ddn, steps=steps, levels=None)
        found["pdgd"] = partial(attacks.pdgd, num_steps=steps)
    return found


def foolbox_attacks(norm, steps):
    """Attacks of foolbox, by name."""
    if importlib.util.find_spec("foolbox") is None:
        return {}
    from foolbox import attacks

    searched = {
        "binary_search_steps": SEARCH_STEPS,
        "steps": steps // SEARCH_STEPS,
    }
    found = {
        "l0": {"fmn": lambda: attacks.L0FMNAttack(steps=steps)},
        "l1": {
            "fmn": lambda: attacks.L1FMNAttack(steps=steps),
            "ead": lambda: attacks.EADAttack(decision_rule="L1", **searched),
        },
        "l2": {
            "fmn": lambda: attacks.L2FMNAttack(steps=steps),
            "ddn": lambda: attacks.DDNAttack(steps=steps),
            "carlini-wagner": lambda: attacks.L2CarliniWagnerAttack(**searched),
        },
        "linf": {
            "fmn": lambda: attacks.LInfFMNAttack(steps=steps),
        },
    }[norm]
    return {
        name: functools.partial(foolbox_attack, make())
        for name, make in found.items()
    }


def torchattacks_attacks(norm, steps):
    """Attacks of torchattacks, by name."""
    if importlib.util.find_spec("torchattacks") is None or norm != "l2":
        return {}
    import torchattacks

    made = {
        "carlini-wagner": functools.partial(torchattacks.CW, steps=steps),
    }
    return {
        name: functools.partial(torchattacks_attack, make)
        for name, make in made.items()
    }


def art_attacks(norm, steps, classes):
    """Attacks of ART, by name."""
    if importlib.util.find_spec("art") is None or norm not in ("l1", "l2"):
        return {}
    from art.attacks import evasion

    options = {"batch_size": 512, "verbose": False}
    searched = {**options, "binary_search_steps": SEARCH_STEPS}
    # An iteration takes two gradients, each of which is a forward pass and a
    # backward pass of the whole batch for every class that occurs in it.
    gradients = 2 * (1 + classes)
    budget = 2 * steps // SEARCH_STEPS
    if norm == "l1":
        made = {
            "ead": functools.partial(
                evasion.ElasticNet,
                max_iter=max(1, budget // (gradients + 2)),
                decision_rule="L1",
                **searched,
            )
        }
    else:
        made = {
            # Halving and doubling of the step: five predictions each, and one.
            "carlini-wagner": functools.partial(
                evasion.CarliniL2Method,
                max_iter=max(1, budget // (gradients + 11)),
                **searched,
            ),
            "deepfool": functools.partial(evasion.DeepFool, **options),
        }
    return {
        name: functools.partial(art_attack, make) for name, make in made.items()
    }


def all_attacks(norm, passes, classes):
    """Functions `(model, x, y) -> images` by library and attack."""
    steps = (passes - SPARE_PASSES) // 2
    found = {
        f"ours {name}": functools.partial(ours, attack)
        for name, attack in our_attacks(norm, steps, classes).items()
    }
    peers = {
        "adv-lib": adv_lib_attacks(norm, steps),
        "foolbox": foolbox_attacks(norm, steps),
        "torchattacks": torchattacks_attacks(norm, steps),
        "ART": art_attacks(norm, steps, classes),
    }
    for library, attacks in peers.items():
        for name, run in attacks.items():
            found[f"{library} {name}"] = functools.partial(torch_attack, run)
    return found
