"""What the library computes, held against what `predict` gave."""

import numpy as np

from .heads import log_softmax
from .heads import read


class Answers:
    """Comparisons for one case.

    Attributes:
        case: `Case`.
        outcome: `Outcome`, which gets the faults.
    """

    def fault(self, text):
        self.outcome.faults.append(text)

    def compare(self, name, logits, outputs):
        """Logits `(N, C)` against what `predict` gave."""
        if logits.shape != (len(outputs), self.case.classes):
            self.fault(f"{name} have shape {logits.shape}")
            return
        if not np.isfinite(logits).all():
            self.fault(f"{name} are not finite")
            return
        self.compare_labels(name, logits.argmax(-1), outputs)
        logits = logits.astype("float64")
        reads = self.case.reads
        if reads in ("logits", "logit"):
            expected = read(outputs, reads)
            scale = max(np.abs(expected).max(), 1e-3)
            differences = [np.abs(logits - expected).max() / scale]
        elif reads == "sigmoids":
            # Before the activation, or logarithms of what is behind it.
            found = 1 / (1 + np.exp(-logits)), np.exp(logits)
            differences = [np.abs(p - outputs).max() for p in found]
        else:
            found = np.exp(log_softmax(logits))
            expected = np.exp(log_softmax(read(outputs, reads)))
            differences = [np.abs(found - expected).max()]
        if not min(differences) <= self.case.rounding:
            self.fault(
                f"{name} differ from predict by {min(differences):.3g}: "
                f"{logits[0].round(4)} for outputs {outputs[0].round(4)}"
            )

    def near_tie(self, outputs):
        """Examples whose answer rounding decides."""
        z = read(outputs, self.case.reads)
        if self.case.reads in ("probabilities", "probability"):
            z = np.exp(z)
        first, second = np.sort(z, axis=-1)[:, :-3:-1].T
        scale = max(np.abs(z).max(), 1e-3)
        return first - second <= 2 * self.case.rounding * scale

    def compare_labels(self, name, labels, outputs):
        expected = read(outputs, self.case.reads).argmax(-1)
        wrong = (labels != expected) & ~self.near_tie(outputs)
        if wrong.any():
            self.fault(
                f"{name}: label {labels[wrong][0]} where predict says "
                f"{expected[wrong][0]}: {outputs[wrong][0].round(4)}"
            )
