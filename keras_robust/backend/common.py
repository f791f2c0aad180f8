"""What two of the three backends share."""

from typing import Any

# A loop reports its progress after this many steps.
STEPS_PER_REPORT = 50


def equal_chunks(steps: int) -> Any:
    """Splits `steps` into pieces of at most `STEPS_PER_REPORT`."""
    whole, rest = divmod(steps, STEPS_PER_REPORT)
    return [STEPS_PER_REPORT] * whole + ([rest] if rest else [])


class EagerStyleTrainer:
    """Train and test steps that attack first; TensorFlow and PyTorch."""

    def train_step(self, data: Any) -> dict:
        """One optimizer step on the attacked batch."""
        data, findings = self.attacked_batch(data)
        return {**super().train_step(data), **findings}

    def test_step(self, data: Any) -> dict:
        """Metrics of one batch, clean and attacked."""
        data = self.safe_batch(data)
        logs = super().test_step(data)
        return {**logs, **self.robust_test_step(data)}

    def sync_state(self) -> None:
        """Variables always hold their values."""
