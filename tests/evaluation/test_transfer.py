import io
import json

import keras
import numpy as np
import pytest

import keras_robust as kr
from tests.helpers import make_linear


@pytest.fixture
def models(rng):
    """Two models of the same weights, and one of other weights."""
    weights = rng.normal(size=(16, 3))
    other = rng.normal(size=(16, 3))
    # Orthogonal to the first: what moves one leaves the other alone.
    basis = np.linalg.qr(weights)[0]
    other -= basis @ (basis.T @ other)
    first, same, apart = (make_linear(w) for w in (weights, 2 * weights, other))
    x = rng.uniform(0.4, 0.6, (90, 16)).astype("float32")
    y = (x @ weights).argmax(-1)
    y_apart = (x @ other).argmax(-1)
    return first, same, apart, x, y, y_apart


@pytest.mark.compiles_much
def test_rates_by_hand(models):
    first, same, apart, x, y, y_apart = models
    attack = kr.PGDAttack("l2", 0.6, steps=10, loss="margin")
    matrix = kr.transfer_matrix(
        {"first": first},
        {"first": first, "same": same, "apart": apart},
        data=(x, y),
        attack=attack,
        verbose=0,
    )
    x_adv = attack(first, x, y)
    fooled = kr.evaluation.predict_labels(first, x_adv) != y
    assert fooled.mean() > 0.5
    both = y_apart == y
    np.testing.assert_array_equal(matrix.examples, [[90, 90, both.sum()]])
    expected = [fooled.mean(), fooled.mean(), 0.0]
    np.testing.assert_allclose(matrix.untargeted[0], expected, atol=1e-6)
    # A fooled model is not always where the attack aimed.
    assert matrix.targeted[0, 0] == matrix.targeted[0, 1]
    assert 0.2 < matrix.targeted[0, 0] <= 1
    assert matrix.targeted[0, 2] == 0


def test_only_untargeted_and_no_common_examples(models):
    first, _, _, x, y, _ = models
    wrong = make_linear(-10 * first.get_weights()[0])
    attack = kr.PGDAttack("l2", 0.1, steps=2)
    matrix = kr.transfer_matrix(
        {"first": first},
        {"wrong": wrong},
        data=(x, y),
        attack=attack,
        targeted=False,
        verbose=0,
    )
    assert matrix.targeted is None
    assert matrix.examples[0, 0] == 0 and np.isnan(matrix.untargeted[0, 0])


def test_table_json_and_figure(tmp_path):
    from rich.console import Console

    matrix = kr.TransferMatrix(
        ["a"], ["a", "b"], [[1.0, 0.25]], [[0.5, 0.125]], [[8, 8]]
    )
    console = Console(record=True, width=80, file=io.StringIO())
    matrix.table(console)
    text = console.export_text()
    assert "Untargeted" in text and "25.0" in text and "12.5" in text
    written = json.loads(matrix.to_json(tmp_path / "transfer.json"))
    assert written["targeted"] == [[0.5, 0.125]]
    figure = matrix.plot(tmp_path / "transfer.png")
    assert len(figure.axes) == 2
    assert figure.axes[0].images[0].get_array().tolist() == [[100, 25]]


def test_a_state_knows_the_compiled_loss_of_each_source(models, tmp_path):
    """Recompiled, the second source is attacked by another loss."""
    first, _, apart, x, y, y_apart = models
    kept = y == y_apart
    sources = {"first": first, "apart": apart}
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def opposite(y_true, y_pred):
        return -cross_entropy(y_true, y_pred)

    attack = kr.PGDAttack("l2", 0.6, steps=10, loss="compiled")

    def rate(loss, **options):
        first.compile("sgd", cross_entropy)
        apart.compile("sgd", loss)
        matrix = kr.transfer_matrix(
            sources,
            {"apart": apart},
            data=(x[kept], y[kept]),
            attack=attack,
            targeted=False,
            verbose=0,
            probe=False,
            **options,
        )
        return matrix.untargeted[1, 0]

    assert rate(cross_entropy, state_path=tmp_path) > 0.3
    assert rate(opposite, state_path=tmp_path) == rate(opposite) == 0


def test_errors(models):
    first, same, _, x, y, _ = models
    attack = kr.PGDAttack("l2", 0.1, steps=2)
    with pytest.raises(ValueError, match="untargeted.*Received"):
        kr.transfer_matrix(
            {"a": first},
            {"a": first},
            data=(x, y),
            attack=kr.PGDAttack(targeted=True),
        )
    with pytest.raises(ValueError, match="aim.*Received"):
        kr.transfer_matrix(
            {"a": first}, {"a": first}, data=(x, y), attack=kr.AutoAttack()
        )
    with pytest.raises(ValueError, match="same model.*Received"):
        kr.transfer_matrix({"a": first}, {"a": same}, (x, y), attack)
    with pytest.raises(ValueError, match="models.*Received"):
        kr.transfer_matrix({}, {"a": same}, (x, y), attack)
