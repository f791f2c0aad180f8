"""Clean and attacked batches that go through a training step together."""

from typing import Any
from typing import NamedTuple

_CLEAN = "keras_robust_clean"
_ATTACKED = "keras_robust_attacked"
_LABELS = "keras_robust_labels"
_ADDED = "keras_robust_added"


class Pair(NamedTuple):
    """Inputs, or outputs, for clean and for attacked images.

    Attributes:
        clean: As a model takes or gives them.
        attacked: The same.
        labels: Int32 tensor `(N,)`, numbers of classes; `None` for labels of
            another kind, and with outputs.
        added: With outputs, what layers added to the loss in each of the two
            passes, and what of it is in the model's `losses` after them, a
            float tensor `(3,)`; `None` for nothing.
    """

    clean: Any
    attacked: Any
    labels: Any = None
    added: Any = None

    def as_dict(self) -> dict[str, Any]:
        """As a dictionary, which Keras passes on."""
        made = {_CLEAN: self.clean, _ATTACKED: self.attacked}
        if self.labels is not None:
            made[_LABELS] = self.labels
        if self.added is not None:
            made[_ADDED] = self.added
        return made


def pair_from(value: Any) -> Pair | None:
    """Read the result of `Pair.as_dict`; `None` for other values."""
    if isinstance(value, dict) and _CLEAN in value:
        return Pair(
            value[_CLEAN],
            value[_ATTACKED],
            value.get(_LABELS),
            value.get(_ADDED),
        )
    return None
