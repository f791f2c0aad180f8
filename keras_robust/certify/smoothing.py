"""Randomized smoothing: a certificate in L2 for any classifier."""

import os
from typing import Any

import numpy as np
from keras import ops

from keras_robust.attacks.engine.randomness import generator
from keras_robust.certify.result import SmoothingResult
from keras_robust.certify.votes import count_votes
from keras_robust.classifier import Classifier
from keras_robust.datasets.arrays import check_form
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.data import check_model
from keras_robust.evaluation.data import read_examples
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.flags import baseline_flags
from keras_robust.evaluation.flags import repeat_flags
from keras_robust.evaluation.outcomes import Baseline
from keras_robust.evaluation.provenance import provenance
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.checks import check_share
from keras_robust.utils.checks import check_value_range
from keras_robust.utils.messages import shown

# The prediction where a smoothed classifier has none.
ABSTAIN = -1
_RANDOMIZED = Flag(
    "randomized",
    "outputs change from call to call; the certificate holds for a model that "
    "draws anew and independently for each noisy input, and not for one that "
    "draws once for a batch",
)


def randomized_smoothing(
    model: Any,
    data: Any,
    sigma: float,
    samples: int = 100_000,
    selection_samples: int = 100,
    alpha: float = 0.001,
    batch_size: int = 512,
    verbose: int = 1,
    seed: int | None = 0,
    state_path: str | os.PathLike[str] | None = None,
    scaling: str | tuple[Any, ...] | None = None,
    value_range: Any = (0.0, 1.0),
    from_logits: bool | None = None,
    attacked: str | int | None = None,
    output: str | int | None = None,
) -> SmoothingResult:
    """Certify the smoothed version of a classifier in L2 (Cohen et al. 2019).

    The smoothed classifier g answers with the class that the model f gives
    most often to `x + N(0, sigma^2 I)`. If this class has a probability of at
    least p > 1/2, no perturbation of a norm below `sigma * Phi^-1(p)` changes
    the answer of g: arXiv:1902.02918, theorem 1, and algorithm Certify of
    section 3.2.2. The class is the most frequent of `selection_samples` votes;
    p is the lower bound of Clopper and Pearson 1934 at confidence `1 - alpha`,
    from `samples` other votes. Where p <= 1/2, g abstains. A certificate is
    wrong with probability at most `alpha`, for each example.

    The certificate is one for g, `SmoothedClassifier`, not for the model
    without noise. It holds for any model, but is only large for one that
    classifies noisy inputs well: train it on noise of the same sigma.

    Noisy inputs are not clipped to `value_range`: the theorem needs Gaussian
    noise. (A model may clip inside.) Votes are the model's own predictions;
    outputs with NaN count against the class. An example costs
    `samples + selection_samples` predictions.

    Args:
        model: A built Keras classifier.
        data: As in `evaluate_robustness`.
        sigma: Float > 0, standard deviation of the noise, in units of
            `value_range`.
        samples: Int >= 1, votes for the bound, the paper's n. The largest
            radius that n votes can show is `sigma * Phi^-1(alpha^(1/n))`: 3.8
            sigma for 100,000, 2.5 sigma for 1,000.
        selection_samples: Int >= 1, votes to choose the class, the paper's n0.
        alpha: Float in (0, 1), the probability of a wrong certificate.
        batch_size: Int >= 1, noisy inputs in one call of the model. Results do
            not depend on it, unless the model itself is random.
        verbose: 0 for no progress bar.
        seed: Int >= 0 or `None`, of the noise. Each example has noise of its
            own, by its place in the data.
        state_path: Folder in which votes are kept, so that the same call
            resumes after a stop, or `None`.
        scaling: As in `evaluate_robustness`; sigma and radii are then shares
            of the whole range.
        value_range: `(low, high)`, the box that inputs without noise lie in,
            or `"auto"`. It is only checked.
        from_logits: As in `PGDAttack`.
        attacked: Name of the input that gets noise, of a model with several;
            the others are held fixed.
        output: Name of the output that is classified, of a model with several.

    Returns:
        `SmoothingResult`.

    Raises:
        ValueError: If an argument is not as above, or data and model do not
            fit.

    Example:

    ```python
    result = keras_robust.certify.randomized_smoothing(
        model, (x, y), sigma=0.25, samples=10_000
    )
    result.table()
    result.accuracy([0.0, 0.25, 0.5])
    ```
    """
    check_model(model)
    check_form(data)
    sigma = _check_sigma(sigma)
    samples = check_positive_integer(samples, "samples")
    selection_samples = check_positive_integer(
        selection_samples, "selection_samples"
    )
    alpha = check_share(alpha, "alpha")
    batch_size = check_positive_integer(batch_size, "batch_size")
    generator(seed)
    examples = read_examples(
        model,
        data,
        scaling=scaling,
        value_range=check_value_range(value_range),
        from_logits=from_logits,
        attacked=attacked,
        output=output,
    )
    baseline = Baseline.of(examples, batch_size)
    settings = {
        "norm": "l2",
        "sigma": sigma,
        "samples": samples,
        "selection_samples": selection_samples,
        "alpha": alpha,
        "seed": seed,
        "scaling": scaling,
    }
    facts = provenance(examples, {}, **settings)
    checkpoint = Checkpoint.of(state_path, {"kind": "smoothing", **facts})
    selection, votes = count_votes(
        examples.classifier,
        examples.image,
        examples.held,
        sigma=sigma,
        samples=(selection_samples, samples),
        seed=seed,
        batch_size=batch_size,
        verbose=verbose,
        section=checkpoint.section("votes") if checkpoint else None,
    )
    top = selection.argmax(-1)
    counts = np.take_along_axis(votes, top[:, None], -1)[:, 0]
    bounds = clopper_pearson(counts, samples, alpha)
    predictions = np.where(bounds > 0.5, top, ABSTAIN)
    flags = [
        _RANDOMIZED if flag.name == _RANDOMIZED.name else flag
        for flag in baseline_flags(baseline)
    ]
    return SmoothingResult(
        predictions,
        predictions == examples.y,
        lower_bounds=bounds,
        sigma=sigma,
        clean=baseline.right,
        flags=flags + repeat_flags(examples),
        provenance=facts,
    )


class SmoothedClassifier:
    """A classifier's majority vote over Gaussian noise, which may abstain.

    Cohen et al. 2019 (arXiv:1902.02918), algorithm Predict of section 3.2.1:
    the most frequent class of `samples` noisy copies, unless a two-sided
    binomial test cannot tell at level `alpha` that it beats the second. What
    is returned is the true majority, which `randomized_smoothing` certifies,
    but for a probability of at most `alpha`.

    Args:
        model: A built Keras classifier.
        sigma: Float > 0, standard deviation of the noise, in units of the
            model's inputs.
        samples: Int >= 1, noisy copies of each input.
        alpha: Float in (0, 1).
        batch_size: Int >= 1, noisy inputs in one call of the model.
        seed: Int >= 0 or `None`, of the noise. With an int, the same inputs
            always get the same answers.
        from_logits: As in `PGDAttack`.
        attacked: Name of the input that gets noise, of a model with several.
        output: Name of the output that is classified, of a model with several.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    ```python
    smoothed = keras_robust.certify.SmoothedClassifier(model, sigma=0.25)
    labels = smoothed.predict(x)  # -1 where it abstains
    ```
    """

    def __init__(
        self,
        model: Any,
        sigma: float,
        samples: int = 1000,
        alpha: float = 0.001,
        batch_size: int = 512,
        seed: int | None = 0,
        from_logits: bool | None = None,
        attacked: str | int | None = None,
        output: str | int | None = None,
    ) -> None:
        check_model(model)
        self.sigma = _check_sigma(sigma)
        self.samples = check_positive_integer(samples, "samples")
        self.alpha = check_share(alpha, "alpha")
        self.batch_size = check_positive_integer(batch_size, "batch_size")
        generator(seed)
        self.seed = seed
        self._options: dict[str, Any] = {
            "from_logits": from_logits,
            "attacked": attacked,
            "output": output,
        }
        self.model = model

    def votes(self, x: Any, verbose: int = 1) -> np.ndarray:
        """How many noisy copies of each input get each class.

        Args:
            x: Array or tensor `(N, ...)`, or a list or dictionary of the
                model's inputs.
            verbose: 0 for no progress bar.

        Returns:
            Int array `(N, C)`.
        """
        classifier = Classifier.of(self.model, **self._options)
        image, held = classifier.split(x)
        image = ops.convert_to_numpy(image)
        held = {k: ops.convert_to_numpy(v) for k, v in held.items()}
        classifier.check_shape(image)
        if not len(image):
            classes = classifier.num_classes
            return np.zeros((0, classes), "int64")
        classifier.check(image, held)
        (votes,) = count_votes(
            classifier,
            image,
            held,
            sigma=self.sigma,
            samples=(self.samples,),
            seed=self.seed,
            batch_size=self.batch_size,
            verbose=verbose,
        )
        found: np.ndarray = votes
        return found

    def predict(self, x: Any, verbose: int = 1) -> np.ndarray:
        """Predict labels.

        Args:
            x: As in `votes`.
            verbose: 0 for no progress bar.

        Returns:
            Int32 array `(N,)`, -1 where the classifier abstains.
        """
        from scipy.stats import binomtest

        votes = self.votes(x, verbose)
        first, second = np.sort(votes, axis=-1)[:, :-3:-1].T
        significant = np.array(
            [
                a > 0 and binomtest(int(a), int(a + b)).pvalue <= self.alpha
                for a, b in zip(first, second, strict=True)
            ],
            bool,
        )
        labels = np.where(significant, votes.argmax(-1), ABSTAIN)
        return labels.astype("int32")


def clopper_pearson(counts: Any, samples: int, alpha: float) -> np.ndarray:
    """Lower confidence bounds of probabilities, at confidence `1 - alpha`.

    One-sided; Clopper and Pearson 1934: the `alpha` quantile of the
    distribution Beta(k, n - k + 1).

    Args:
        counts: Ints k, successes.
        samples: Int n >= 1, trials.
        alpha: Float in (0, 1).

    Returns:
        Float array, 0 where k = 0.
    """
    from scipy.stats import beta

    counts = np.asarray(counts, float)
    found = beta.ppf(alpha, np.maximum(counts, 1), samples - counts + 1)
    return np.where(counts > 0, found, 0.0)


def _check_sigma(sigma: Any) -> float:
    is_number = isinstance(sigma, (int, float, np.number))
    if not is_number or isinstance(sigma, bool) or not 0 < sigma < np.inf:
        raise ValueError(
            "Argument `sigma` must be a number > 0. "
            f"Received: sigma={shown(sigma)}"
        )
    return float(sigma)
