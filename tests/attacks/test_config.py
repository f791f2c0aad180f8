import copy
import dataclasses
import inspect
import pickle

import keras
import numpy as np
import pytest

import keras_robust as kr

ATTACKS = [
    kr.APGDAttack,
    kr.AutoAttack,
    kr.CarliniWagnerL2,
    kr.DDNAttack,
    kr.FABAttack,
    kr.FGSMAttack,
    kr.FMNAttack,
    kr.PGDAttack,
    kr.PDPGDAttack,
    kr.SigmaZeroAttack,
    kr.SpatialAttack,
    kr.SquareAttack,
]
OTHERS = [kr.Mixture, kr.NonRobustifier, kr.Robustifier, kr.Shortcut]


def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


@pytest.mark.parametrize("kind", [*ATTACKS, *OTHERS])
def test_the_class_that_was_called_is_named(kind):
    known = list(inspect.signature(kind).parameters)
    typo = known[-1] + "x"
    with pytest.raises(TypeError) as error:
        kind(**{typo: 1})
    assert str(error.value).startswith(
        f"{kind.__name__} has no argument {typo!r}. Did you mean {known[-1]!r}?"
    )
    with pytest.raises(TypeError, match=f"^{kind.__name__}: too many"):
        kind(*range(50))


def test_missing_arguments():
    with pytest.raises(TypeError, match="^Robustifier: missing .*'model'"):
        kr.Robustifier()


def test_a_subclass_is_named():
    class Mine(kr.PGDAttack):
        pass

    with pytest.raises(TypeError, match="^Mine has no argument 'foo'. It"):
        Mine(foo=1)


def test_typos_of_an_adversarial_model():
    attack = kr.PGDAttack("l2", 0.1)
    with pytest.raises(TypeError, match="Did you mean 'augmentation'"):
        kr.AdversarialModel(model(), attack, augmentatoin=None)
    with pytest.raises(TypeError, match="Did you mean 'dtype'"):
        kr.AdversarialModel(model(), attack, dtyp="float32")
    assert kr.AdversarialModel(model(), attack, name="mine").name == "mine"


@pytest.mark.parametrize("kind", ATTACKS)
def test_settings_that_there_are_not(kind):
    attack = kind()
    with pytest.raises(AttributeError, match="no setting 'foo'. Its settings"):
        attack.foo = 1
    with pytest.raises(AttributeError, match="Did you mean 'batch_size'"):
        attack.batchsize = 1
    with pytest.raises(AttributeError, match=r"replace\(batch_size=...\)"):
        attack.batch_size = 1
    with pytest.raises(TypeError, match="Did you mean 'batch_size'"):
        attack.replace(batchsize=1)


def test_a_model_is_no_norm():
    with pytest.raises(ValueError, match=r"attack\(model, x, y\)"):
        kr.PGDAttack(model(), epsilon=0.1)


class PassesOn(kr.PGDAttack):
    def __init__(self, share=1.0, **settings):
        super().__init__(**settings)
        self.share = share


class PassesAllOn(kr.PGDAttack):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class KeepsNothing(kr.PGDAttack):
    def __init__(self, strength):
        super().__init__("linf", 0.1 * strength)


@pytest.mark.parametrize("kind", [PassesOn, PassesAllOn])
def test_settings_that_a_subclass_passes_on_are_kept(kind):
    attack = kind(norm="linf", epsilon=0.3, steps=2)
    copies = [
        pickle.loads(pickle.dumps(attack)),
        copy.deepcopy(attack),
        kind.from_config(attack.get_config()),
        attack.replace(epsilon=0.3),
    ]
    for made in copies:
        assert (made.norm, made.epsilon, made.steps) == ("linf", 0.3, 2)
    # Not given before.
    assert attack.replace(seed=3).seed == 3
    assert attack.get_config() != attack.replace(steps=3).get_config()
    with pytest.raises(TypeError, match="'stepz'"):
        attack.replace(stepz=1)


def test_positional_settings_that_a_subclass_passes_on_are_kept():
    attack = PassesAllOn("linf", 0.3)
    made = pickle.loads(pickle.dumps(attack))
    assert (made.norm, made.epsilon) == ("linf", 0.3)
    assert attack.get_config() == {"norm": "linf", "epsilon": 0.3}


def test_settings_that_a_subclass_does_not_keep():
    attack = KeepsNothing(2)
    assert "strength=2" in repr(attack)
    assert pickle.loads(pickle.dumps(attack)).epsilon == attack.epsilon
    assert attack.replace(strength=3).epsilon > attack.epsilon


@pytest.mark.slow_on_jax
def test_settings_passed_on_tell_evaluations_apart(tmp_path):
    network = model()
    kernel = np.array([[5, -5, 0], [0, 0, 0]], "float32")
    network.set_weights([kernel, np.array([-2.5, 2.5, -9], "float32")])
    x = np.random.default_rng(0).random((20, 2), dtype="float32")
    y = network.predict(x, verbose=0).argmax(-1)
    found = [
        kr.evaluate_robustness(
            network,
            (x, y),
            {"mine": PassesOn(epsilon=radius, value_range="auto", seed=0)},
            state_path=tmp_path,
            verbose=0,
        )
        for radius in (1e-6, 0.9)
    ]
    assert found[0].accuracy["mine"] == 1.0 > found[1].accuracy["mine"]
    first, second = (
        report.provenance["attacks"]["mine"]["config"] for report in found
    )
    assert first != second


class MakesSets(kr.NonRobustifier):
    def __init__(self, source, **settings):
        super().__init__(source, **settings)
        self.source = source


def test_settings_passed_on_tell_generated_sets_apart(tmp_path):
    network = model()
    x = np.random.default_rng(0).random((8, 2), dtype="float32")
    y = np.zeros(8, int)

    def generate(steps):
        made = MakesSets(network, steps=steps, seed=0)
        names = ["a", "b", "c"]
        kr.datasets.generate(
            made, (x, y), tmp_path, verbose=0, class_names=names
        )

    generate(1)
    with pytest.raises(ValueError, match="steps was 1 and is 2"):
        generate(2)


def test_a_negative_seed():
    attack = kr.PGDAttack("l2", 0.1, random_start=True, seed=-1)
    with pytest.raises(ValueError, match="`seed` must be an integer >= 0"):
        attack(model(), np.ones((2, 2), "float32"), [0, 1], verbose=0)


def test_defaults_that_would_not_count():
    """The `__init__` of a class that is not decorated has its base's."""

    class NotDecorated(kr.PGDAttack):
        steps: int = 20

    @dataclasses.dataclass(eq=False, repr=False)
    class NotAnnotated(kr.PGDAttack):
        steps = 20

    @dataclasses.dataclass(eq=False, repr=False)
    class Decorated(kr.PGDAttack):
        steps: int = 20

    class Inherits(Decorated):
        default_share = 0.1

    for kind in (NotDecorated, NotAnnotated):
        with pytest.raises(TypeError, match=f"{kind.__name__}.*@dataclass.*st"):
            kind()
    assert Decorated().steps == Inherits().steps == 20


@dataclasses.dataclass(eq=False, repr=False)
class Unbounded(kr.attacks.Attack):
    def attack(self, problem, verbose, scored, checkpoint):
        return {"x": 1 - problem.x}


class WithRadius(Unbounded):
    def __init__(self, epsilon=None):
        self.epsilon = epsilon
        super().__init__()


def test_an_attack_without_a_radius_has_none():
    """A default would count what it broke against attacks of that radius."""
    assert Unbounded().epsilon is None
    assert WithRadius().epsilon == 0.5
    assert WithRadius().get_config() == {"epsilon": None}
    x = np.array([[0.3, 0.1], [0.2, 0.4]], "float32")
    attacked = Unbounded()(model(), x, [0, 1], verbose=0)
    np.testing.assert_array_equal(attacked, 1 - x)
