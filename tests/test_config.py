import inspect

import keras
import pytest

import keras_robust as kr

ATTACKS = [
    kr.APGDAttack,
    kr.AutoAttack,
    kr.CarliniWagnerL2,
    kr.FABAttack,
    kr.FGSMAttack,
    kr.PGDAttack,
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
