"""What two of the three backends share."""

import keras

# A loop reports its progress after this many steps.
STEPS_PER_REPORT = 50


def equal_chunks(steps):
    """Splits `steps` into pieces of at most `STEPS_PER_REPORT`."""
    whole, rest = divmod(steps, STEPS_PER_REPORT)
    return [STEPS_PER_REPORT] * whole + ([rest] if rest else [])


class EagerStyleTrainer:
    """Train and test steps that attack first; TensorFlow and PyTorch."""

    def train_step(self, data):
        """One optimizer step on the perturbed batch."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        x = self.perturb(x, y)
        data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        return super().train_step(data)

    def test_step(self, data):
        """Clean metrics and robust accuracy of one batch."""
        logs = super().test_step(data)
        return {**logs, **self.robust_test_step(data)}
