"""Closed forms of Ilyas et al. 2019, section 4, against independent checks."""

import keras
import numpy as np
import pytest
from scipy.optimize import minimize

import keras_robust as kr
from keras_robust import theory
from keras_robust.theory.exact_game import worst_steps

DIAGONAL = np.array([0.5, 1.0, 2.0, 4.0])


def deviations(examples, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal((examples, 4)) * np.sqrt(DIAGONAL)


# Gaussians.


def test_attacked_accuracy_of_linear_rules():
    """The published-style example: robust fitting trades 8 points for 50."""
    model = theory.GaussianModel([1.0, 0.5], [1.0, 0.05])
    learned = theory.robust_fit([1.0, 0.05], 2.0).covariance
    robust = model.mean / learned
    assert model.accuracy() == pytest.approx(0.9928, abs=5e-5)
    assert model.accuracy(1.0) == pytest.approx(0.0491, abs=5e-5)
    assert model.accuracy(weights=robust) == pytest.approx(0.9151, abs=5e-5)
    attacked = model.accuracy(1.0, weights=robust)
    assert attacked == pytest.approx(0.5473, abs=5e-5)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_attacked_accuracy_against_samples(norm):
    """An attack moves x against y along what is dual to the weights."""
    matrix = np.array([[1.0, 0.3], [0.3, 0.5]])
    model = theory.GaussianModel([1.0, 0.7], matrix)
    x, y = model.sample(200_000, seed=1)
    w = model.weights
    step = {
        "l1": np.where(abs(w) == abs(w).max(), np.sign(w), 0),
        "l2": w / np.linalg.norm(w),
        "linf": np.sign(w),
    }[norm]
    attacked = x - 0.3 * y[:, None] * step
    share = (np.sign(attacked @ w) == y).mean()
    assert model.accuracy(0.3, norm) == pytest.approx(share, abs=0.004)


def test_maximum_likelihood_finds_the_model():
    model = theory.GaussianModel([1.0, 0.7], [[1.0, 0.3], [0.3, 0.5]])
    x, y = model.sample(100_000, seed=2)
    fitted = theory.GaussianModel.fit(x, y)
    np.testing.assert_allclose(fitted.mean, model.mean, atol=0.01)
    np.testing.assert_allclose(fitted.covariance, model.covariance, atol=0.02)
    own = fitted.negative_log_likelihood(x, y).mean()
    assert own <= model.negative_log_likelihood(x, y).mean()


def test_likelihood_against_scipy():
    from scipy.stats import multivariate_normal

    model = theory.GaussianModel([1.0, 0.7], [[1.0, 0.3], [0.3, 0.5]])
    x, y = model.sample(5, seed=3)
    expected = [
        -multivariate_normal.logpdf(row, label * model.mean, model.covariance)
        for row, label in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(model.negative_log_likelihood(x, y), expected)


# Theorem 1.


def test_vulnerability():
    """1.96893 is the change of v' S^-1 v, twice that of the likelihood."""
    found = theory.vulnerability(DIAGONAL, 6.0)
    assert 2 * found == pytest.approx(1.96893, abs=5e-6)
    v = deviations(400_000)
    d = theory.optimal_perturbation(v, DIAGONAL, 6.0)
    change = (((v + d) ** 2 - v**2) / DIAGONAL).sum(-1).mean() / 2
    assert found == pytest.approx(change, rel=5e-3)
    # Turning the data changes nothing.
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))
    matrix = turn @ np.diag(DIAGONAL) @ turn.T
    assert theory.vulnerability(matrix, 6.0) == pytest.approx(found)


def test_perturbation_is_the_maximum():
    v = deviations(1)[0]
    best = theory.optimal_perturbation(v[None], DIAGONAL, 6.0)[0]

    def loss(d):
        return -((v + d) ** 2 / DIAGONAL).sum() / 2 + 3 * (d**2).sum()

    found = minimize(loss, np.zeros(4), tol=1e-12).x
    np.testing.assert_allclose(best, found, atol=1e-5)


def test_vulnerability_is_least_for_the_identity():
    random = np.random.default_rng(0)
    spectra = random.dirichlet(np.full(4, 20.0), 2000) * DIAGONAL.sum()
    penalty = 1.05 / spectra.min()
    least = theory.vulnerability(np.full(4, DIAGONAL.sum() / 4), penalty)
    assert all(theory.vulnerability(s, penalty) >= least for s in spectra)


def test_too_small_a_penalty_is_refused():
    with pytest.raises(ValueError, match="penalty.*Received: penalty=2"):
        theory.vulnerability(DIAGONAL, 2.0)


# Theorem 2.


@pytest.mark.parametrize(
    ("epsilon", "multiplier", "covariance"),
    [
        (0.1, 18.0875, (0.6055, 1.1078, 2.1091, 4.1098)),
        (1.0, 1.20744, (1.7686, 2.3666, 3.4580, 5.5324)),
        (10.0, 0.0319568, (35.51, 37.41, 40.27, 44.66)),
    ],
)
def test_robust_covariance(epsilon, multiplier, covariance):
    found = theory.robust_fit(DIAGONAL, epsilon)
    assert found.multiplier == pytest.approx(multiplier, rel=5e-6)
    np.testing.assert_allclose(found.covariance, covariance, rtol=2e-4)
    # The formula of the theorem.
    s, lam = DIAGONAL, found.multiplier
    formula = s / 2 + 1 / lam + np.sqrt(s / lam + s**2 / 4)
    np.testing.assert_allclose(found.covariance, formula, rtol=1e-12)
    # A saddle point: each is the best answer to the other.
    m = found.perturbation
    np.testing.assert_allclose(s * (1 + m) ** 2, formula, rtol=1e-12)
    np.testing.assert_allclose(m, 1 / (lam * formula - 1), rtol=1e-10)
    assert (s * m**2).sum() == pytest.approx(epsilon**2, rel=1e-9)
    low, high = theory.multiplier_bounds(DIAGONAL, epsilon)
    assert low <= lam <= high


def test_no_budget_no_change():
    found = theory.robust_fit(DIAGONAL, 1e-6).covariance
    np.testing.assert_allclose(found, DIAGONAL, rtol=1e-5)


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_the_relaxed_game_comes_closer_with_the_dimension():
    differences = []
    for d in (2, 8, 32, 128):
        s = np.tile([0.5, 2.0], d // 2)
        epsilon = 0.5 * np.sqrt(d)
        exact = theory.exact_robust_fit(s, epsilon, examples=2000, steps=30)
        relaxed = theory.robust_fit(s, epsilon).covariance
        differences.append(np.abs(relaxed / exact - 1).max())
    assert differences == sorted(differences, reverse=True)
    assert 0.05 < differences[0] < 0.12 and differences[-1] < 0.005


def test_worst_step_is_the_maximum_in_the_ball():
    v = deviations(30)
    d = worst_steps(v, DIAGONAL, 0.7)
    np.testing.assert_allclose(np.linalg.norm(d, axis=-1), 0.7, rtol=1e-9)
    random = np.random.default_rng(1).standard_normal((2000, 1, 4))
    others = 0.7 * random / np.linalg.norm(random, axis=-1, keepdims=True)

    def loss(step):
        return ((v + step) ** 2 / DIAGONAL).sum(-1)

    assert (loss(d) >= loss(others) - 1e-9).all()


def trained(epsilon, mean):
    """Mean and covariance that our own adversarial training learns."""
    keras.utils.set_random_seed(0)
    v = deviations(4000)
    # Exactly the moments that theory is asked about.
    v -= v.mean(0)
    root = np.linalg.cholesky(np.cov(v.T, bias=True))
    v = v @ np.linalg.inv(root).T * np.sqrt(DIAGONAL)
    y = np.arange(4000) % 2
    x = ((2 * y - 1)[:, None] * (mean + v)).astype("float32")
    inputs = keras.Input((4,))
    layer = theory.GaussianLogits()
    model = keras.Model(inputs, layer(inputs))
    attack = kr.PGDAttack(
        epsilon=epsilon,
        steps=8,
        value_range=(-100.0, 100.0),
        loss=theory.GaussianLogits.loss,
        from_logits=True,
    )
    robust = kr.AdversarialModel(model, attack)
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 300)
    robust.compile(
        keras.optimizers.Adam(schedule), loss=theory.GaussianLogits.loss
    )
    robust.fit(x, y, batch_size=1000, epochs=75, verbose=0)
    return keras.ops.convert_to_numpy(layer.mean), layer.covariance


@pytest.mark.on_one_backend
@pytest.mark.parametrize("epsilon", [0.0, 1.0])
@pytest.mark.thorough
def test_adversarial_training_learns_what_is_predicted(epsilon):
    mean = np.array([1.0, 0.5, -1.0, 2.0])
    found_mean, found = trained(epsilon, mean)
    np.testing.assert_allclose(found_mean, mean, atol=0.05)
    expected = DIAGONAL
    if epsilon:
        expected = theory.exact_robust_fit(DIAGONAL, epsilon, 20_000, steps=40)
    # Two samples of some thousands each.
    np.testing.assert_allclose(found, expected, rtol=0.05)


# Theorem 3.


def test_minimal_cosine():
    assert theory.minimal_cosine(DIAGONAL) == pytest.approx(0.62854, abs=5e-6)
    for epsilon, k, cosine in (
        (0.5, 4.336, 0.7805),
        (1.0, 3.128, 0.8569),
        (3.0, 1.832, 0.9559),
    ):
        learned = theory.robust_fit(DIAGONAL, epsilon).covariance
        assert learned.max() / learned.min() == pytest.approx(k, abs=5e-4)
        found = theory.minimal_cosine(learned)
        assert found == pytest.approx(cosine, abs=5e-5)


def test_no_direction_is_worse():
    def cosine(mu):
        gradient = mu / DIAGONAL
        size = np.linalg.norm(gradient, axis=-1) * np.linalg.norm(mu, axis=-1)
        return (mu * gradient).sum(-1) / size

    least = theory.minimal_cosine(DIAGONAL)
    worst = theory.worst_direction(DIAGONAL)
    assert cosine(worst) == pytest.approx(least)
    random = np.random.default_rng(0).standard_normal((100_000, 4))
    assert cosine(random).min() >= least
    assert cosine(random).min() == pytest.approx(least, abs=0.005)


# What is refused.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: theory.GaussianModel([0, 0], [1, -1]), "positive definite"),
        (lambda: theory.GaussianModel([0, 0], np.eye(3)), r"shape \(3, 3\)"),
        (lambda: theory.robust_fit([1, 2], 0), "epsilon=0"),
        (lambda: theory.robust_fit([1, 0], 1), "positive diagonal"),
        (
            lambda: theory.GaussianModel([0], [1]).accuracy(1, "l3"),
            "norm='l3'",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_gaussian_logits_are_likelihoods(tmp_path):
    inputs = keras.Input((4,))
    layer = theory.GaussianLogits()
    model = keras.Model(inputs, layer(inputs))
    layer.mean.assign([1.0, 0.5, -1.0, 2.0])
    layer.log_variance.assign(np.log(DIAGONAL))
    truth = theory.GaussianModel([1.0, 0.5, -1.0, 2.0], DIAGONAL)
    x, y = truth.sample(6, seed=0)
    logits = model.predict(x.astype("float32"), verbose=0)
    own = theory.GaussianLogits.loss((y + 1) // 2, logits)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(own),
        truth.negative_log_likelihood(x, y),
        rtol=1e-5,
    )
    model.save(tmp_path / "gaussian.keras")
    again = keras.saving.load_model(tmp_path / "gaussian.keras")
    np.testing.assert_allclose(
        again.predict(x.astype("float32"), verbose=0), logits, rtol=1e-6
    )
