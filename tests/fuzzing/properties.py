"""What must hold for every model and data set, or a ValueError of ours."""

import time
import warnings

import keras
import numpy as np
from keras import ops

import keras_robust as kr
from keras_robust import backend
from keras_robust.classifier import Classifier

from . import mutations
from .answers import Answers
from .draws import Draw
from .draws import level
from .heads import log_softmax
from .heads import read
from .outcome import REFUSALS
from .outcome import Outcome
from .outcome import describe_error
from .outcome import describe_frames
from .outcome import is_ours
from .random_data import attack_options
from .random_data import attacked_part
from .random_data import random_data
from .random_data import random_inputs
from .random_data import with_attacked
from .random_models import draw_factors
from .random_models import random_case
from .speed import cheap_compilation
from .state import snapshot
from .state import state_faults


def run_seed(seed, quick=False):
    """Makes the case of a seed and checks every property.

    Args:
        seed: Int.
        quick: Whether to leave out, by turns, what is compiled once more.
    """
    outcome = _run_once(seed, quick)
    if outcome.faults and keras.backend.backend() == "jax":
        # XLA without its optimizations, which makes this fast, gives infinite
        # gradients for some models with GlobalMaxPooling, also in a plain
        # `jax.jit(jax.grad(model))`. What counts is what users run.
        outcome = _run_once(seed, quick, cheap=False)
    return outcome


def _run_once(seed, quick, cheap=True):
    outcome = Outcome(seed)
    start = time.time()
    factors = draw_factors(seed)
    # Keras's gradient of float8 needs a trace.
    eager = factors["change"] != "float8"
    with cheap_compilation(seed, quick, eager, cheap):
        try:
            outcome.lines = [f"{k}: {v}" for k, v in factors.items()]
            try:
                case = random_case(seed)
            except Exception as error:
                raise NoModelError(describe_error(error)) from error
            outcome.lines = case.describe().split("\n")
            Check(case, outcome, quick).run()
        except NoModelError as error:
            outcome.status, outcome.reason = "no model", str(error)
        except Exception as error:
            outcome.faults.append(
                f"{describe_error(error)}\n{describe_frames(error)}"
            )
    if outcome.faults:
        outcome.status = "fault"
    outcome.seconds = time.time() - start
    return outcome


def compiled(function, variables):
    """As an attack compiles it, where single operations are slow."""
    if keras.backend.backend() != "jax":
        return function
    return backend.compile(function, variables)


class NoModelError(Exception):
    """What was drawn is no model on this backend, whatever we do with it."""


class Check(Answers):
    """All properties of one case.

    Args:
        case: `Case`.
        outcome: `Outcome`, which gets the faults.
        quick: See `run_seed`.
    """

    def __init__(self, case, outcome, quick=False):
        self.quick = quick
        self.case = case
        self.outcome = outcome
        self.model = case.model
        x = random_inputs(case)
        try:
            self.clean = self.predict(x)
        except Exception as error:
            # Nothing of ours has touched it yet: negative steps of a slice on
            # PyTorch, a torch layer that gets bfloat16.
            raise NoModelError(describe_error(error)) from error
        if not np.isfinite(self.clean).all():
            raise NoModelError("it gives no finite numbers")
        again = self.predict(x)
        if not case.random and not np.allclose(again, self.clean, atol=1e-4):
            # An int8 kernel of XLA on some CPUs.
            raise NoModelError("its predict changes from call to call")
        labels = read(self.clean, case.reads).argmax(-1)
        self.data = random_data(case, x, labels)
        self.survivors = level(case.seed, "survivors", (False, False, True))
        self.attack_options = attack_options(case, quick)
        self.attack = kr.PGDAttack(**self.attack_options, **case.options)
        outcome.lines += self.data.lines
        outcome.lines.append(f"attack: {self.attack_options} {case.options}")

    def predict(self, x):
        """The model's own answer, by Keras: float64 `(N, C)` or `(N, 1)`."""
        batch = self.case.batch
        count = len(attacked_part(x))
        missing = -count % batch if batch else 0
        if missing:
            x = keras.tree.map_structure(
                lambda a: np.concatenate([a, a[:1].repeat(missing, 0)]), x
            )
        outputs = self.model.predict(x, batch_size=batch or count, verbose=0)
        if self.case.output is not None:
            names = getattr(self.model, "output_names", None)
            if isinstance(outputs, (list, tuple)):
                outputs = outputs[names.index(self.case.output)]
            else:
                outputs = outputs[self.case.output]
        return np.asarray(outputs, "float64")[:count]

    def run(self):
        if self.refused():
            return
        before = snapshot(self.model)
        attacked, caught = self.attacked()
        after = snapshot(self.model)
        for text in state_faults(before, after):
            self.fault(f"(d) the attack changed the model: {text}")
        image = self.check_output(attacked)
        if self.case.random:
            self.check_random()
        else:
            self.check_logits("(a)")
            self.check_loss(image, caught)
            if self.has_turn("report", 2):
                self.check_report(image)
        for text in state_faults(before, snapshot(self.model)):
            # `predict` itself moves these, of layers that draw in vain.
            if "seed_generator" not in text:
                self.fault(f"(d) the model has changed: {text}")
        if not self.case.random:
            self.check_again()
            if self.has_turn("change", 4):
                self.check_changed()

    def has_turn(self, name, one_in):
        """Whether to do what a quick run does for one in so many cases."""
        turns = (True, *(False,) * (one_in - 1))
        return not self.quick or level(self.case.seed, name, turns)

    def refused(self):
        """Whether the library refuses the case, and whether it may."""
        case = self.case
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.classifier().check(*self.classifier_inputs())
        except ValueError as error:
            if not is_ours(error):
                raise
            text = " ".join(str(error).split())
            self.outcome.status = "refused"
            known = [key for key in REFUSALS if key in text]
            self.outcome.reason = known[0] if known else text[:200]
            said = case.refused is None or case.refused in text
            if not said and "layers that look up" not in text:
                self.fault(f"the error does not say {case.refused}: {text}")
            if not known:
                self.fault(f"refused for no known reason: {text}")
            self.refused_alike()
            return True
        if case.refused is not None:
            self.fault(f"must be refused: {case.refused}")
        return False

    def refused_alike(self):
        """Attack and evaluation must say the same."""
        calls = {
            "attack": lambda: self.attack(
                self.model, self.data.user_x, self.data.user_y, verbose=0
            ),
            "evaluation": lambda: self.evaluate(),
        }
        for name, call in calls.items():
            try:
                call()
            except ValueError as error:
                if not is_ours(error):
                    raise
            else:
                self.fault(f"refused by the classifier, not by the {name}")

    def classifier(self):
        return Classifier.of(self.model, **self.case.options)

    def classifier_inputs(self):
        x = self.data.x
        image, held = self.classifier().split(x)
        return np.asarray(image, "float32"), held

    def attacked(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            given = self.model, self.data.user_x, self.data.user_y
            if self.survivors:
                attacked = self.attack(*given, verbose=0)
            else:
                # What an evaluation compiles, once for both.
                attacked = self.attack.run(
                    *given, verbose=0, scored=True, warns=True
                )["x"]
        return attacked, [str(warning.message) for warning in caught]

    def check_output(self, attacked):
        """(c) Kind, shape, dtype, ball and box; the image as NumPy."""
        given, got = self.data.user_x, attacked
        if type(got) is not type(given):
            self.fault(f"(c) {type(given)} became {type(got)}")
        if isinstance(given, (list, dict)):
            held = given[0] if isinstance(given, list) else given["other"]
            kept = got[0] if isinstance(given, list) else got["other"]
            if not np.array_equal(held, kept):
                self.fault("(c) an input that is held fixed has moved")
        given, got = attacked_part(given), attacked_part(got)
        if got.dtype != given.dtype or got.shape != given.shape:
            self.fault(
                f"(c) {given.dtype} {given.shape} became "
                f"{got.dtype} {got.shape}"
            )
        image = np.asarray(ops.convert_to_numpy(got))
        self.check_ball(image)
        return image

    def check_ball(self, image):
        low, high = self.case.value_range
        clean = np.asarray(
            ops.convert_to_numpy(attacked_part(self.data.user_x))
        )
        step = image.astype("float64") - clean.astype("float64")
        order = {"l1": 1, "l2": 2, "linf": np.inf}[self.attack_options["norm"]]
        size = np.linalg.norm(step.reshape(len(step), -1), order, axis=1)
        epsilon = self.attack_options["epsilon"]
        if not (size <= epsilon * (1 + 1e-6)).all():
            self.fault(f"(c) norm {size.max():.9g} above {epsilon}")
        if not (image.min() >= low and image.max() <= high):
            self.fault(f"(c) values from {image.min()} to {image.max()}")

    def check_random(self):
        if not self.classifier().is_randomized(*self.classifier_inputs()):
            self.fault("a random model is not called so")

    def check_logits(self, where):
        """(a) What the library computes is what the model says."""
        classifier = self.classifier()
        image, held = self.classifier_inputs()
        classes = classifier.check(image, held)
        if classes != self.case.classes:
            self.fault(f"{where} {classes} classes, not {self.case.classes}")
        tensors = keras.tree.map_structure(
            ops.convert_to_tensor, {"x": image, "held": held}
        )
        logits = compiled(
            lambda tensors: classifier.logits(
                tensors["x"], held=tensors["held"]
            ),
            self.model.variables,
        )(tensors)
        logits = ops.convert_to_numpy(logits)
        outputs = self.predict(self.data.x)
        self.compare(f"{where} logits", logits, outputs)
        own = classifier.predict_logits(image, held=held)
        self.compare(f"{where} predict_logits", own, outputs)
        labels = classifier.predict_labels(image, held=held)
        self.compare_labels(f"{where} predict_labels", labels, outputs)

    def losses(self, outputs):
        """Cross-entropy of the true labels, float64."""
        z = log_softmax(read(outputs, self.case.reads))
        return -z[np.arange(len(z)), self.data.y]

    def check_loss(self, image, caught):
        """(b) The attack raises the loss, by `predict`."""
        y = self.data.y
        shown = self.predict(with_attacked(self.data.x, self.as_model(image)))
        before, after = self.losses(self.clean), self.losses(shown)
        z = read(self.clean, self.case.reads)
        slack = 2 * self.case.rounding * (1 + np.abs(z).max())
        found = read(shown, self.case.reads).argmax(-1) != y
        right = read(self.clean, self.case.reads).argmax(-1) == y
        # The better of two iterates is first of all the one that is wrong.
        worse = (after < before - slack) & ~(found & right)
        integers = np.issubdtype(self.model_dtype(), np.integer)
        if integers:
            worse = np.array([after.sum() < before.sum() - len(y) * slack])
        if worse.any():
            self.fault(
                f"(b) loss by predict {before.round(5)} became {after.round(5)}"
            )
        if not (after > before + 1e-7).any():
            self.check_silence(before, caught)

    def check_silence(self, before, caught):
        """An attack that finds nothing must have said so, or be right."""
        if any("gradient" in text for text in caught):
            self.outcome.notes.append("no gradient, and a warning")
            return
        low, high = self.case.value_range
        radius = self.attack_options["epsilon"]
        random = Draw(self.case.seed, "noise").random
        image = self.data.image.astype("float64")
        rises = 0
        for _ in range(5):
            noise = random.uniform(-1, 1, image.shape)
            if self.attack_options["norm"] != "linf":
                size = np.abs(noise).reshape(len(noise), -1).sum(-1)
                noise /= size.reshape(-1, *(1,) * (noise.ndim - 1))
            moved = np.clip(image + radius * noise, low, high)
            if np.issubdtype(self.model_dtype(), np.integer):
                moved = np.round(moved)
            moved = moved.astype(self.model_dtype())
            outputs = self.predict(with_attacked(self.data.x, moved))
            rises += (self.losses(outputs) > before + 1e-3).sum()
        # Outputs of int8 layers move in steps, so that one of many may.
        few = len(before) // 4 if "int8" in self.case.describe() else 0
        if rises > few:
            self.fault(
                f"(b) the attack raises no loss and does not say so; of 5 "
                f"random points {rises} have a larger one"
            )

    def model_dtype(self):
        return self.data.image.dtype

    def as_model(self, image):
        """Images as the model takes them."""
        if np.issubdtype(self.model_dtype(), np.integer):
            image = np.round(image)
        return image.astype(self.model_dtype())

    def evaluate(self, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kr.evaluate_robustness(
                self.model,
                self.data.source(),
                {"pgd": self.attack},
                verbose=0,
                probe=False,
                **options,
            )

    def check_report(self, image):
        """(e) The report's accuracies are those of `predict`."""
        y, reads = self.data.y, self.case.reads
        report = self.evaluate(survivors_only=self.survivors)
        clean = read(self.clean, reads).argmax(-1) == y
        kept = ~self.near_tie(self.clean)
        if (report.correct["clean"] != clean)[kept].any():
            self.fault(
                f"(e) clean accuracy {report.accuracy['clean']:.3f}, by "
                f"predict {clean.mean():.3f}"
            )
        if (report.correct["pgd"] & ~report.correct["clean"]).any() and (
            self.survivors
        ):
            self.fault("(e) right under attack and wrong without")
        if self.survivors:
            return
        shown = self.predict(with_attacked(self.data.x, self.as_model(image)))
        right = read(shown, reads).argmax(-1) == y
        kept = ~self.near_tie(shown)
        if (report.correct["pgd"] != right)[kept].any():
            self.fault(
                f"(e) attacked accuracy {report.accuracy['pgd']:.3f}, by "
                f"predict {right.mean():.3f}"
            )

    def check_again(self):
        """(d) `predict` gives what it gave."""
        again = self.predict(self.data.x)
        if np.abs(again - self.clean).max() > 1e-6 * np.abs(self.clean).max():
            self.fault("(d) predict gives something else than before")
        if level(self.case.seed, "trace", (True, *(False,) * 5)):
            self.model.make_predict_function(force=True)
            again = self.predict(self.data.x)
            difference = np.abs(again - self.clean).max()
            if difference > self.case.rounding * np.abs(self.clean).max():
                self.fault("(d) predict, traced again, gives other numbers")

    def check_changed(self):
        """(a) once more, after a change of the model."""
        name = level(self.case.seed, "mutation", mutations.NAMES)
        done = mutations.mutate(self.case, name)
        if done is None:
            return
        self.outcome.lines.append(f"then: {done}")
        self.model.make_predict_function(force=True)
        self.clean = self.predict(self.data.x)
        if not np.isfinite(self.clean).all():
            self.outcome.notes.append("no finite numbers after the change")
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.check_logits(f"(a) after {done}:")
