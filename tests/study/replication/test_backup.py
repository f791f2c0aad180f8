"""Tests of what is kept of a training that is stopped."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_robust.study.replication import backup


def compiled():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.random((8, 3)), rng.random((8, 2))


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    monkeypatch.setattr(backup, "SECONDS_BETWEEN_BACKUPS", 0.0)


def callback(folder):
    return backup.Backup(folder, backup.Stopwatch(folder / "seconds.json"))


class Killed(BaseException):
    pass


class Weights(keras.callbacks.Callback):
    """Weights and momenta after each epoch."""

    def __init__(self):
        super().__init__()
        self.by_epoch = {}

    def on_epoch_end(self, epoch, logs=None):
        self.by_epoch[epoch + 1] = values(self.model)


def values(model):
    variables = [*model.weights, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(each) for each in variables]


def test_the_last_state_is_restored_with_the_optimizer(tmp_path, images):
    model = compiled()
    model.fit(*images, epochs=3, callbacks=[callback(tmp_path)], verbose=0)
    resumed = compiled()
    assert backup.restore(resumed, tmp_path) == 3
    for found, expected in zip(values(resumed), values(model), strict=True):
        np.testing.assert_allclose(found, expected)
    assert len(list(tmp_path.glob("*.weights.h5"))) == 1


def test_without_a_state_a_training_starts_afresh(tmp_path):
    assert backup.restore(compiled(), tmp_path) == 0


@pytest.mark.parametrize("moment", ["weights", "state"])
def test_a_process_killed_while_it_writes_leaves_the_state_before(
    tmp_path, images, monkeypatch, moment
):
    model, weights = compiled(), Weights()
    save, write_json = model.save_weights, backup.write_json
    written = []

    def save_weights(path):
        written.append(path)
        if moment == "weights" and len(written) == 3:
            path.write_bytes(b"the beginning")
            raise Killed
        save(path)

    def write(path, value):
        if moment == "state" and path.name == "state.json":
            if value["epochs"] == 3:
                raise Killed
        write_json(path, value)

    monkeypatch.setattr(model, "save_weights", save_weights)
    monkeypatch.setattr(backup, "write_json", write)
    with pytest.raises(Killed):
        model.fit(
            *images,
            epochs=4,
            callbacks=[weights, callback(tmp_path)],
            verbose=0,
        )
    resumed = compiled()
    assert backup.restore(resumed, tmp_path) == 2
    expected = weights.by_epoch[2]
    for found, value in zip(values(resumed), expected, strict=True):
        np.testing.assert_allclose(found, value)


def test_states_are_not_kept_faster_than_they_are_worth(tmp_path, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(backup, "time", clock)
    monkeypatch.setattr(backup, "SECONDS_BETWEEN_BACKUPS", 10.0)
    kept = callback(tmp_path)
    model = compiled()
    model.optimizer.build(model.trainable_variables)
    kept.set_model(model)
    found = []
    for epoch, seconds in enumerate((4.0, 8.0, 12.0, 16.0, 25.0)):
        now[0] = seconds
        kept.on_epoch_end(epoch)
        found.append(backup.restore(model, tmp_path))
    # After 12 and 25 seconds: two epochs ended less than ten seconds later.
    assert found == [0, 0, 3, 3, 5]


def test_seconds_before_a_stop_count(tmp_path, monkeypatch):
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(backup, "time", clock)
    path = tmp_path / "seconds.json"
    first = backup.Stopwatch(path)
    now[0] += 30
    first.keep()
    # What comes after is lost with the process, and done again.
    now[0] += 1000
    second = backup.Stopwatch(path)
    now[0] += 20
    assert second.seconds == 50
    assert backup.Stopwatch().seconds == 0
