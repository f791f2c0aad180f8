import types
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_robust.datasets import ImageDataset
from keras_robust.study import Replication
from keras_robust.study import get_recipe
from keras_robust.study.replication import measures
from keras_robust.study.replication import settings


class Sets:
    """A study of random images whose class is one pixel."""

    seed = 0
    verbose = 0

    def __init__(self):
        random = np.random.default_rng(0)
        x = random.random((4200, 2, 2, 1), dtype="float32")
        y = (x[:, 0, 0, 0] > 0.5).astype("int32")
        self.data = ImageDataset(
            (x[:4000], y[:4000]), (x[4000:], y[4000:]), "ab"
        )
        self.recipe = types.SimpleNamespace(leakage_epsilon=0.05)

    def seed_of(self, name):
        return len(name)

    def generated(self, name):
        x, y = self.data.train
        return {"x": x, "y": 1 - y if name == "D_det" else y}


@pytest.mark.thorough
def test_leakage_is_what_robust_linear_features_tell():
    found = measures.leakage(Sets())
    assert found["chance"] == 0.5
    # A linear rule of one pixel can be learned, and its opposite as well.
    assert found["D_rand"] > 0.8 and found["D_other"] == found["D_rand"]
    assert found["D_det"] < 0.2


@pytest.mark.parametrize("accelerated", [False, True])
def test_large_images_are_attacked_in_smaller_batches(accelerated, monkeypatch):
    monkeypatch.setattr(
        settings.backend, "has_accelerator", lambda: accelerated
    )
    dimensions = (8 * 8, 32 * 32 * 3, 64 * 64 * 3, 224 * 224 * 3)
    sizes = [settings.images_at_once(number) for number in dimensions]
    assert sizes == ([1250, 1250, 312, 128] if accelerated else [128] * 4)


def test_no_correlation_where_nothing_varies():
    assert measures._correlation([1, 2, 3], [0.2, 0.4, 0.6]) == 1
    assert measures._correlation([1, 1], [0.2, 0.4]) is None
    assert measures._correlation([1, 2], [0.2, None]) is None


@pytest.fixture
def study(tmp_path):
    recipe = replace(
        get_recipe("digits", "smoke"), train_images=64, test_images=32
    )
    return Replication(recipe, tmp_path, verbose=0)


@pytest.mark.on_one_backend
def test_decomposition(study):
    by_radius = measures.decomposition(study)
    assert list(by_radius) == [f"{radius:g}" for radius in study.recipe.radii]
    accuracy = study.evaluate("D_R")["accuracy"]
    for radius, found in by_radius.items():
        assert list(found) == ["D_R train", "D_R test", "test"]
        # The same figure as in the table.
        expected = pytest.approx(accuracy[f"pgd-l2-{radius}"], abs=0.07)
        assert found["test"] == expected


@pytest.mark.slow
def test_transfer_keeps_its_networks(study, monkeypatch):
    found = study.measure("transfer", measures.transfer)
    assert found["names"] == found["sources"] == ["small_cnn", "narrow"]
    assert np.shape(found["targeted"]) == (2, 2)
    assert set(found["D_det"]) == set(found["names"])
    monkeypatch.setattr(Replication, "_train", None)
    again = Replication(study.recipe, study.store.folder.parent, verbose=0)
    assert measures.transfer(again)["D_det"] == found["D_det"]


def test_transfer_is_from_what_the_sets_were_made_with(study, monkeypatch):
    """Not from a standard model that D_det has nothing to do with."""
    plain = study.recipe
    other = ("mlp", {"widths": (8,)})
    built = {}

    def model(name):
        return built.setdefault(name, study.network(name))

    def architecture(base, name):
        spec = study.recipe.network_spec(study.recipe.architectures[name])
        return built.setdefault((base, name), study.recipe.build(spec))

    used = []

    def watched(sources, targets, *args, **options):
        used.append(sources)
        return transfer_matrix(sources, targets, *args, **options)

    transfer_matrix = measures.transfer_matrix
    monkeypatch.setattr(measures, "transfer_matrix", watched)
    monkeypatch.setattr(study, "model", model)
    monkeypatch.setattr(study, "architecture", architecture)
    monkeypatch.setattr(
        study, "evaluate", lambda name: {"accuracy": {"clean": 0.5}}
    )
    found = []
    for networks in ({"source": other}, {"standard": other}):
        study.recipe = replace(plain, networks=networks)
        built.clear()
        found.append(measures.transfer(study))
        first = next(iter(networks))
        assert used[-1][f"{first} model"] is built[first]
    with_source, without_source = found
    assert with_source["sources"] == ["source model", "small_cnn", "narrow"]
    assert with_source["names"] == list(with_source["D_det"])
    assert with_source["names"] == ["small_cnn", "narrow"]
    # The standard model is an MLP here, that of D_det is not.
    assert without_source["sources"] == ["standard model", "narrow"]
    assert np.shape(without_source["untargeted"]) == (2, 1)
    assert list(without_source["D_det"]) == ["narrow"]


@pytest.mark.slow
def test_autoattack_goes_on_where_it_was_stopped(study, monkeypatch):
    study.recipe = replace(
        study.recipe, autoattack_images=12, radii=(2.0, 0.1, 1.0)
    )
    for name in ("adversarial", "D_R"):
        study._networks[name] = study.network()
    found = study.measure("autoattack", measures.autoattack)
    assert set(found) == {"adversarial", "D_R"}
    for figures in found.values():
        assert list(figures) == ["clean", "0.1", "2"]
        assert figures["clean"] >= figures["0.1"] >= figures["2"]
    assert not list(study.store.folder.glob("state-*"))
    monkeypatch.setattr(measures, "evaluate_robustness", None)
    assert study.measure("autoattack", measures.autoattack) == found


def test_nearest_images(study):
    x, y = study.data.train
    rows = np.arange(len(x))
    # One image turns into another one, whose label is not its own.
    other = int(np.flatnonzero(y != y[0])[0])
    turned = x.copy()
    turned[0] = x[other]
    labels = y.copy()
    labels[0] = y[other]
    kept = {"x": x, "y": y}
    study.generated = lambda name: (
        {"x": turned, "y": labels} if name == "D_rand" else kept
    )
    found = measures.nearest(study)
    assert found["D_R"] == {"original": 1.0, "label": 1.0}
    share = (len(rows) - 1) / len(rows)
    assert found["D_rand"] == {
        "original": share,
        "label": 1.0,
        "other has the label": 1.0,
    }


def test_squared_distances(rng):
    first, second = rng.random((3, 5)), rng.random((4, 5))
    expected = ((first[:, None] - second) ** 2).sum(-1)
    found = measures.squared_distances(first, second)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_dtype_policy_of_a_recipe(tmp_path):
    recipe = replace(
        get_recipe("digits", "smoke"), dtype_policy="mixed_bfloat16"
    )
    network = Replication(recipe, tmp_path, verbose=0).network()
    assert network.layers[1].compute_dtype == "bfloat16"
    assert network.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_one_network_serves_all_evaluations(tmp_path):
    study = Replication(get_recipe("digits", "smoke"), tmp_path, verbose=0)
    for name in ("standard", "D_NR"):
        study._networks[name] = study.network()
    first = study.shared_network("standard")
    second = study.shared_network("D_NR")
    assert first is second
    for one, other in zip(
        second.get_weights(), study.model("D_NR").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_networks_by_model(tmp_path):
    """A source of its own for the relabelled sets, another kind of student."""
    plain = get_recipe("digits", "smoke")
    student = ("small_cnn", {"filters": (4, 4)})
    recipe = replace(
        plain, networks={"source": ("mlp", {"widths": (8,)}), "D_rand": student}
    )
    assert "source" in recipe.models and "source" not in plain.models
    study = Replication(recipe, tmp_path, verbose=0)
    assert study.network("source").name == "mlp"
    assert study.network().name == "small_cnn"
    for name in ("D_rand", "D_rand_shortcut", "D_rand_robust"):
        assert recipe.network_of(name) == student
    assert recipe.network_of("D_det") == plain.network_of("D_det")
    sources = {
        "D_rand": "source",
        "D_other": "source",
        "D_rand_robust": "adversarial",
        "D_rand_shortcut": None,
        "D_R": "adversarial",
        "D_NR": "standard",
    }
    for name, source in sources.items():
        assert recipe.source_of(name) == source
    assert plain.source_of("D_rand") == "standard"
    assert len({study.seed_of(name) for name in recipe.models}) == len(
        recipe.models
    )
    for name in ("standard", "D_rand", "source"):
        study._networks[name] = study.network(name)
    shared = [study.shared_network(name) for name in ("standard", "D_rand")]
    assert shared[0] is not shared[1]
