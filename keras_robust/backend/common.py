"""What two of the three backends share."""

from typing import Any

import keras

# A loop reports its progress after this many steps.
STEPS_PER_REPORT = 50


def equal_chunks(steps: int) -> list[int]:
    """Split `steps` into chunks of `STEPS_PER_REPORT` and the rest."""
    whole, rest = divmod(steps, STEPS_PER_REPORT)
    return [STEPS_PER_REPORT] * whole + ([rest] if rest else [])


class StatefulTrainer(keras.Model):
    """See `Backend.Trainer`; for TensorFlow and PyTorch.

    Their train and test steps change variables in place.
    """

    def train_step(self, data: Any) -> dict[str, Any]:
        """One optimizer step on the attacked batch."""
        if self.replays > 1:
            return self.replayed_step(data)
        data, findings = self.attacked_batch(data)
        weights, shifts = self.trainable_variables, self.weight_shifts(data)
        if shifts is None:
            return {**super().train_step(data), **findings}
        shifted = []
        try:
            for weight, shift in zip(weights, shifts, strict=True):
                weight.assign_add(shift)
                shifted.append((weight, shift))
            logs = super().train_step(data)
        finally:
            # Also when the training is interrupted.
            for weight, shift in shifted:
                weight.assign_sub(shift)
        return {**logs, **findings}

    def test_step(self, data: Any) -> dict[str, Any]:
        """Metrics of one batch, clean and attacked."""
        data = self.safe_batch(data)
        logs = super().test_step(data)
        return {**logs, **self.robust_test_step(data)}

    def sync_state(self) -> None:
        """Do nothing: variables always hold their values."""
