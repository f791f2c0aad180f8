"""What came of a case, and which errors are ours."""

import os
import traceback
from dataclasses import dataclass
from dataclasses import field

import keras

import keras_robust as kr

# What a library may refuse: part of the error, and why that is right.
REFUSALS = {
    "from_logits": "an output that does not tell whether it is logits",
    "softmax of one unit": "a model that always gives one answer",
    "must have no layers that look up": "what JAX cannot compute",
}


@dataclass
class Outcome:
    """What came of one case.

    Args:
        seed: Int.
        status: `"ok"`, `"refused"`, `"fault"`, or `"no model"`: Keras itself
            cannot predict with it.
        reason: Of a refusal, or why there is no model.
        faults: List of strings.
        notes: List of strings: what was left out, and why.
        lines: The case in words.
        seconds: Float.
    """

    seed: int
    status: str = "ok"
    reason: str = ""
    faults: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    lines: list = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self):
        backend = keras.backend.backend()
        return "\n".join(
            [
                f"seed {self.seed}: {self.status} {self.reason}",
                *(f"  FAULT {fault}" for fault in self.faults),
                *(f"  note: {note}" for note in self.notes),
                *(f"  {line}" for line in self.lines),
                f"  again: KERAS_BACKEND={backend} python -m tests.fuzzing "
                f"{self.seed}",
            ]
        )


def is_ours(error):
    """Whether an error is one that our library means to raise."""
    frames = traceback.extract_tb(error.__traceback__)
    text = str(error)
    package = os.path.dirname(kr.__file__)
    return (
        type(error) is ValueError
        and frames[-1].filename.startswith(package)
        and ("must" in text or "Received" in text)
    )


def describe_error(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"


def describe_frames(error):
    frames = traceback.extract_tb(error.__traceback__)
    return "\n".join(
        f"      {frame.filename}:{frame.lineno} {frame.line}"
        for frame in frames[-12:]
    )
