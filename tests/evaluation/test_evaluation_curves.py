"""Flags, state and provenance of curves and transfer matrices; states."""

import json
import subprocess
import sys
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust import cli
from keras_robust.attacks.attack import Attack
from keras_robust.evaluation import evaluate
from keras_robust.evaluation import outcomes
from keras_robust.evaluation.diagnostics import Diagnostics
from tests.helpers import make_linear


def names(result):
    return {flag.name for flag in result.flags}


def rounding_model(model, shape):
    """The same model behind rounded pixels: no gradient comes through."""
    inputs = keras.Input(shape)
    rounding = keras.layers.Lambda(lambda z: ops.round(z * 20) / 20)
    return keras.Model(inputs, model(rounding(inputs)))


@dataclass(eq=False, repr=False)
class Careless(Attack):
    """Leaves its ball."""

    norm = "linf"
    epsilon: float

    def attack(self, problem, verbose, scored, checkpoint):
        return {"x": problem.x + np.float32(2 * self.epsilon)}


def counted(monkeypatch):
    """How often an attack is run, whichever."""
    runs = []
    real = kr.PGDAttack.run

    def run(self, *args, **kwargs):
        runs.append(self.epsilon)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(kr.PGDAttack, "run", run)
    return runs


@pytest.mark.slow_on_jax
def test_a_sound_curve_has_no_flags(varied):
    model, x, y = varied
    curve = kr.robustness_curve(
        model,
        (x, y),
        "l2",
        [0.1, 0.2],
        attack=lambda e: kr.PGDAttack("l2", e, steps=5),
        verbose=0,
    )
    assert not curve.flags and curve.provenance["norm"] == "l2"
    assert curve.provenance["epsilon"] == [0.1, 0.2]


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_a_curve_of_masked_gradients_is_flagged(linear_problem):
    model, x, y = linear_problem
    masked = rounding_model(model, x.shape[1:])
    curve = kr.robustness_curve(
        masked,
        (x, y),
        "linf",
        [0.05, 0.1],
        attack=lambda e: kr.PGDAttack("linf", e, steps=3),
        verbose=0,
    )
    # Nothing has moved; the curve alone would look robust.
    assert curve.accuracy[2] == curve.accuracy[0] > 0.8
    assert {
        *("vanishing gradients", "noise beats gradients", "zero gradient"),
        *("black box beats white box", "unbounded radius survived"),
        "flat activations hide gradients",
    } == names(curve)
    written = json.loads(curve.to_json())
    assert {flag["name"] for flag in written["flags"]} == names(curve)


def test_flags_of_what_a_curve_ran(linear_problem):
    model, x, y = linear_problem
    curve = kr.robustness_curve(
        model,
        (x, y),
        "linf",
        [0.02, 0.04],
        attack=lambda e: Careless(e),
        verbose=0,
        probe=False,
    )
    outside = [flag for flag in curve.flags if flag.name == "outside ball"]
    assert [flag.evidence["attack"] for flag in outside] == [
        *("epsilon 0.02", "epsilon 0.04")
    ]
    small = kr.robustness_curve(
        model,
        (x, y),
        "linf",
        [1e-4, 0.6],
        attack=lambda e: kr.PGDAttack("linf", e, steps=1),
        verbose=0,
        probe=False,
    )
    radii = [flag for flag in small.flags if flag.name == "radius"]
    assert [flag.evidence["attack"] for flag in radii] == [
        *("epsilon 0.0001", "epsilon 0.6")
    ]


def test_a_larger_radius_that_leaves_more_is_seen_on_a_curve(linear_problem):
    """Each radius attacks witnesses that smaller ones have broken."""
    model, x, y = linear_problem

    @dataclass(eq=False, repr=False)
    class Overshoots(Attack):
        norm = "linf"
        epsilon: float

        def attack(self, problem, verbose, scored, checkpoint):
            if self.epsilon > 0.03:
                return {"x": problem.x}
            inner = kr.PGDAttack("linf", self.epsilon, steps=3)
            return {
                "x": inner(problem.classifier, problem.x, problem.y, verbose=0)
            }

    curve = kr.robustness_curve(
        model,
        (x, y),
        "linf",
        [0.02, 0.04],
        attack=lambda e: Overshoots(e),
        verbose=0,
        probe=False,
    )
    assert names(curve) == {"more attack raises accuracy"}
    # What is broken at 0.02 is broken at 0.04.
    assert curve.accuracy[2] == curve.accuracy[1] < curve.accuracy[0]


def test_curve_from_what_the_model_says(linear_problem):
    model, x, y = linear_problem

    @dataclass(eq=False, repr=False)
    class Lying(Attack):
        norm = "linf"
        epsilon: float

        def attack(self, problem, verbose, scored, checkpoint):
            claims = np.ones(len(problem.x), bool)
            return {"x": problem.x, "success": claims}

    curve = kr.robustness_curve(
        model,
        (x, y),
        "linf",
        [0.1],
        attack=lambda e: Lying(e),
        verbose=0,
        probe=False,
    )
    clean = model.predict(x, verbose=0).argmax(-1) == y
    np.testing.assert_array_equal(curve.correct[1], clean)
    (flag,) = curve.flags
    assert flag.name == "search disagrees"
    assert flag.evidence["examples"] == clean.sum()


def test_attacks_of_other_radii_are_refused(linear_problem):
    model, x, y = linear_problem
    for make in (
        lambda e: kr.PGDAttack("linf", 0.3),
        lambda e: kr.PGDAttack("l2", e),
        lambda e: kr.CarliniWagnerL2(),
    ):
        with pytest.raises(ValueError, match="norm and radius of the curve"):
            kr.robustness_curve(model, (x, y), "linf", [0.1], make)
    for wrong in (kr.PGDAttack, kr.PGDAttack("linf", 0.1), 3):
        with pytest.raises(ValueError, match="`attack` must be a name, or"):
            kr.robustness_curve(model, (x, y), "linf", [0.1], wrong)
    with pytest.raises(ValueError, match="`epsilons` must be numbers"):
        kr.robustness_curve(model, (x, y), "linf", ["a"])


def test_a_stopped_curve_goes_on(linear_problem, tmp_path, monkeypatch):
    model, x, y = linear_problem
    runs = counted(monkeypatch)

    def curve(radii):
        return kr.robustness_curve(
            model,
            (x, y),
            "linf",
            radii,
            attack=lambda e: kr.PGDAttack("linf", e, steps=3),
            verbose=0,
            probe=False,
            state_path=tmp_path,
        )

    first = curve([0.02, 0.04])
    assert runs == [0.02, 0.04]
    again = curve([0.02, 0.04])
    assert runs == [0.02, 0.04]
    np.testing.assert_array_equal(again.correct, first.correct)
    other = curve([0.02, 0.08])
    assert runs == [0.02, 0.04, 0.02, 0.08]
    np.testing.assert_array_equal(other.correct[:2], first.correct[:2])


@pytest.fixture
def pair(rng):
    """Two models of one boundary, and data that both get right."""
    weights = rng.normal(size=(16, 3))
    x = rng.uniform(0.4, 0.6, (60, 16)).astype("float32")
    y = (x @ weights).argmax(-1)
    return make_linear(weights), make_linear(2 * weights), x, y


@pytest.mark.slow_on_jax
def test_flags_and_provenance_of_a_transfer_matrix(linear_problem):
    model, x, y = linear_problem
    masked = rounding_model(model, x.shape[1:])
    attack = kr.PGDAttack("linf", 0.1, steps=2)
    matrix = kr.transfer_matrix(
        {"plain": model, "masked": masked},
        {"plain": model},
        (x, y),
        attack,
        verbose=0,
    )
    *attacks, flag = matrix.flags
    assert [each.name for each in attacks] == 2 * ["zero gradient"]
    assert flag.name == "vanishing gradients"
    assert flag.evidence["source"] == "masked"
    written = json.loads(matrix.to_json())
    assert written["flags"][-1]["name"] == "vanishing gradients"
    found = written["provenance"]
    assert found["sources"] == ["plain", "masked"]
    assert set(found["model_fingerprint"]) == {"plain", "masked"}
    assert len(set(found["model_fingerprint"].values())) == 2
    assert found["attacks"]["targeted"]["config"]["targeted"] is True


def test_transfer_flags_of_outputs_and_claims(pair):
    first, same, x, y = pair

    @dataclass(eq=False, repr=False)
    class Lying(Attack):
        norm = "linf"
        epsilon: float = 0.1
        targeted: bool = False

        def attack(self, problem, verbose, scored, checkpoint):
            claims = np.ones(len(problem.x), bool)
            return {"x": problem.x + np.float32(0.3), "success": claims}

    matrix = kr.transfer_matrix(
        {"first": first},
        {"same": same},
        (x, y),
        Lying(),
        verbose=0,
        probe=False,
    )
    moved = x + np.float32(0.3)
    wrong = same.predict(moved, verbose=0).argmax(-1) != y
    assert matrix.untargeted[0, 0] == wrong.mean()
    found = {(flag.name, flag.evidence["attack"]) for flag in matrix.flags}
    assert found == {
        ("outside ball", "first, untargeted"),
        ("outside ball", "first, targeted"),
        ("search disagrees", "first, untargeted"),
        ("search disagrees", "first, targeted"),
        # The images fill a fifth of the box.
        ("range", "Lying"),
    }


@pytest.mark.parametrize("seed", [0, None])
def test_a_stopped_transfer_goes_on(pair, tmp_path, monkeypatch, seed):
    first, same, x, y = pair
    runs = counted(monkeypatch)

    def matrix(epsilon=0.6):
        return kr.transfer_matrix(
            {"first": first, "same": same},
            {"first": first, "same": same},
            (x, y),
            kr.PGDAttack("l2", epsilon, steps=3, seed=seed),
            verbose=0,
            probe=False,
            state_path=tmp_path,
        )

    one = matrix()
    assert runs == [0.6] * 4
    again = matrix()
    assert runs == [0.6] * 4
    np.testing.assert_array_equal(again.untargeted, one.untargeted)
    np.testing.assert_array_equal(again.targeted, one.targeted)
    matrix(0.3)
    assert runs[4:] == [0.3] * 4


def test_a_generator_is_read_once_for_all_models(pair):
    first, same, x, y = pair
    batches = ((x[s : s + 20], y[s : s + 20]) for s in range(0, 60, 20))
    matrix = kr.transfer_matrix(
        {"first": first},
        {"same": same},
        batches,
        kr.PGDAttack("l2", 0.3, steps=3),
        targeted=False,
        verbose=0,
    )
    assert matrix.examples[0, 0] == 60 and 0 < matrix.untargeted[0, 0] < 1


def test_transfer_misuse(pair):
    first, same, x, y = pair
    two = make_linear(np.ones((16, 2)))
    attack = kr.PGDAttack()
    for arguments, message in (
        (([first], {"a": same}, (x, y), attack), "`sources` must be a dict"),
        (({"a": x}, {"a": same}, (x, y), attack), "must be a built Keras"),
        (({"a": first}, {"b": same}, x, attack), "`data` must be a pair"),
        (({"a": first}, {"b": same}, (x, y), "pgd"), "`attack` must be"),
        (({"a": first}, {"b": two}, (x, y % 2), attack), "same classes"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            kr.transfer_matrix(*arguments, verbose=0)
        assert len(str(caught.value)) < 500


SETTINGS = {
    "epsilon": {"attack": kr.PGDAttack("linf", 0.04, steps=3)},
    "mask": {
        "attack": kr.PGDAttack("linf", 0.02, steps=3, mask=np.ones((4, 4, 1)))
    },
    "value_range": {
        "attack": kr.PGDAttack("linf", 0.02, steps=3, value_range=(0, 2))
    },
    "scaling": {"scaling": "symmetric"},
    "survivors": {"survivors_only": False},
    "labels": {"swap": True},
    "from_logits": {"from_logits": True},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_another_setting_into_the_same_folder_runs_anew(
    linear_problem, tmp_path, setting
):
    model, x, y = linear_problem
    base = {"attack": kr.PGDAttack("linf", 0.02, steps=3)}

    def accuracy(attack, folder, swap=False, **options):
        labels = 1 - y if swap else y
        return kr.evaluate_robustness(
            model,
            (x, labels),
            attack,
            verbose=0,
            probe=False,
            state_path=tmp_path / folder,
            **options,
        ).accuracy

    accuracy(**base, folder="one")
    changed = {**base, **SETTINGS[setting]}
    mixed = accuracy(**changed, folder="one")
    assert mixed == accuracy(**changed, folder="two")
    # Two evaluations in one folder, one in the other.
    assert len(list((tmp_path / "one").iterdir())) == 2
    assert len(list((tmp_path / "two").iterdir())) == 1
    # The first one is still there.
    real, evaluate.run_attack = evaluate.run_attack, None
    try:
        evaluate.run_attack = only_restoring
        accuracy(**base, folder="one")
    finally:
        evaluate.run_attack = real


def only_restoring(examples, baseline, attack, section, *args):
    found = section.section("done").restore()
    assert found is not None
    return outcomes.Outcome.from_arrays(found)


def graph(power, weights):
    """Two graphs with the same weights and different functions."""
    inputs = keras.Input((16,))
    h = keras.layers.Dense(3)(inputs)
    model = keras.Model(inputs, keras.layers.Rescaling(power)(h))
    model.set_weights([weights, np.zeros(3)])
    return model


def test_another_graph_with_the_same_weights_runs_anew(rng, tmp_path):
    weights = rng.normal(size=(16, 3))
    x = rng.uniform(0.4, 0.6, (60, 16)).astype("float32")
    y = (x @ weights).argmax(-1)
    for power in (1.0, -1.0):
        model = graph(power, weights)
        report = kr.evaluate_robustness(
            model,
            (x, y),
            kr.PGDAttack("linf", 0.01, steps=2),
            verbose=0,
            probe=False,
            state_path=tmp_path,
        )
        right = model.predict(x, verbose=0).argmax(-1) == y
        assert report.accuracy["clean"] == right.mean()
        assert report.accuracy["PGDAttack"] <= right.mean()


def test_a_loss_of_ones_own_counts_with_its_code(linear_problem, tmp_path):
    model, x, y = linear_problem

    def made(sign):
        if sign > 0:

            def loss(labels, logits):
                return -ops.take_along_axis(logits, labels[:, None], 1)[:, 0]

        else:

            def loss(labels, logits):
                return ops.take_along_axis(logits, labels[:, None], 1)[:, 0]

        return kr.PGDAttack("linf", 0.05, steps=3, loss=loss)

    found = [
        kr.evaluate_robustness(
            model,
            (x, y),
            {"pgd": made(sign)},
            verbose=0,
            probe=False,
            state_path=tmp_path,
        ).accuracy["pgd"]
        for sign in (1, -1)
    ]
    assert found[0] < found[1]


class Stepper:
    def __init__(self, size):
        self.size = size

    def __call__(self, batch):
        step = self.size * ops.sign(batch.gradient(batch.start))
        return batch.project(batch.start + step)


def _with_closure(size):
    def step(batch):
        return Stepper(size)(batch)

    return step


def _with_default(size):
    def step(batch, size=size):
        return Stepper(size)(batch)

    return step


def _with_model(size):
    guide = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    guide.set_weights([np.full((1, 1), size), np.zeros(1)])

    def step(batch):
        return Stepper(guide.get_weights()[0].item())(batch)

    return step


@pytest.mark.parametrize("make", [_with_closure, _with_default, _with_model])
def test_an_attack_counts_with_what_it_reads(make, linear_problem, tmp_path):
    """Code of one text, with other values: another attack."""
    model, x, y = linear_problem

    def evaluated(size, state_path):
        attack = kr.attacks.from_function(make(size), "linf", 0.2)
        return kr.evaluate_robustness(
            model,
            (x, y),
            {"own": attack},
            verbose=0,
            probe=False,
            state_path=state_path,
        )

    first = evaluated(0.0, tmp_path)
    assert first.accuracy["own"] == first.accuracy["clean"]
    second = evaluated(0.2, tmp_path)
    np.testing.assert_array_equal(
        second.correct["own"], evaluated(0.2, None).correct["own"]
    )
    assert second.accuracy["own"] < first.accuracy["own"]
    assert len(list(tmp_path.iterdir())) == 2
    evaluated(0.2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_is_no_state_folder(linear_problem, tmp_path):
    model, x, y = linear_problem
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ValueError, match="`state_path` must be a folder"):
        kr.evaluate_robustness(
            model, (x, y), kr.PGDAttack(), verbose=0, state_path=path
        )


def test_a_stopped_evaluation_reads_what_is_done(
    linear_problem, tmp_path, monkeypatch
):
    """The second attack fails; the first one is not run again."""
    model, x, y = linear_problem
    attacks = {
        "small": kr.PGDAttack("linf", 0.02, steps=2),
        "large": kr.PGDAttack("linf", 0.05, steps=3),
    }
    real, ran = outcomes.check_output, []

    def once(attack, *args):
        ran.append(attack.epsilon)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return real(attack, *args)

    monkeypatch.setattr(outcomes, "check_output", once)
    options = {"verbose": 0, "probe": False, "state_path": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        kr.evaluate_robustness(model, (x, y), attacks, **options)
    report = kr.evaluate_robustness(model, (x, y), attacks, **options)
    assert ran == [0.02, 0.05, 0.05]
    monkeypatch.setattr(outcomes, "check_output", real)
    whole = kr.evaluate_robustness(
        model, (x, y), attacks, verbose=0, probe=False
    )
    assert report.accuracy == whole.accuracy


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A classifier of digits that takes pixels of 0 to 255."""
    (x, y), _ = kr.datasets.load("digits")
    flat = x.reshape(len(x), -1)
    means = np.stack([flat[y == label].mean(0) for label in range(10)])
    model = make_linear(
        (2 / 255 * means).T, -(means**2).sum(-1), shape=(8, 8, 1)
    )
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return path


def evaluate_by_command(saved, folder, *more):
    arguments = [
        *("evaluate", str(saved), "--dataset", "digits", "--norm", "l2"),
        *("--attack", "fgsm", "--examples", "60", "--verbose", "0"),
        *("--output", str(folder), *more),
    ]
    assert cli.main(arguments) == 0
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_the_wrong_scaling_then_the_right_one(
    saved, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(Diagnostics, "run", lambda self, cheap=False: [])
    radius = ("--epsilon", "0.3")
    found = {
        folder: [
            evaluate_by_command(
                saved, tmp_path / folder, *radius, "--scaling", scaling
            )["accuracy"]
            for scaling in scalings
        ]
        for folder, scalings in (("a", ("unit", "byte")), ("b", ("byte",)))
    }
    assert found["a"][1] == found["b"][0] != found["a"][0]
    detected = evaluate_by_command(saved, tmp_path / "a", *radius)["accuracy"]
    assert detected == found["b"][0]
    printed = capsys.readouterr().out
    assert (
        "Detected input scaling: byte (pixels in [0, 255]); change with "
        "--scaling." in printed
    )
    # Several radii: a curve, with flags, state and provenance.
    curve = evaluate_by_command(
        saved, tmp_path / "a", "--epsilon", "0.1", "0.3"
    )
    assert curve["accuracy"][2] <= found["b"][0]["fgsm l2 0.3"]
    assert curve["flags"] == [] and curve["provenance"]["scaling"] == "byte"
    # Another number of examples into the same folder.
    assert (
        evaluate_by_command(saved, tmp_path / "a", *radius, "--examples", "40")[
            "examples"
        ]
        == 40
    )
    folders = [p for p in (tmp_path / "a" / "state").iterdir() if p.is_dir()]
    assert len(folders) == 4


def test_mistakes_of_the_command(saved, tmp_path, capsys):
    begin = ["evaluate", str(saved), "--dataset", "digits"]
    for more, message in (
        (["--examples", "0"], "--examples: must be a whole number >= 1"),
        (["--examples", "-3"], "--examples: must be a whole number >= 1"),
        (["--batch-size", "0"], "--batch-size: must be a whole number >= 1"),
        (["--norm", "l3"], "--norm: invalid choice"),
        (["--from-logits", "yes"], "--from-logits: must be true or false"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main([*begin, *more])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    path = tmp_path / "file"
    path.write_text("")
    assert cli.main([*begin, "--output", str(path)]) == 2
    assert "`--output` must be a folder" in capsys.readouterr().err


@pytest.mark.on_one_backend
def test_help_and_version(capsys):
    from keras_robust.attacks.registry import ATTACK_NAMES
    from keras_robust.cli.evaluate import ATTACKS

    assert ATTACKS == ATTACK_NAMES
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for name in ATTACK_NAMES:
        assert name in printed
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == f"keras-robust {kr.__version__}"
    done = subprocess.run(
        [sys.executable, "-m", "keras_robust", "--version"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == f"keras-robust {kr.__version__}"
