"""The page of an evaluation, and what it is made of."""

import ast
import html
import re
from pathlib import Path

import numpy as np
import pytest

import keras_robust as kr
from keras_robust.evaluation.flag_meanings import MEANINGS
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.verdict import judgement
from keras_robust.evaluation.verdict import threat_text
from tests.helpers import make_linear
from tests.html_pages import CHROMIUM
from tests.html_pages import Outline
from tests.html_pages import measured_in_chromium

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "keras_robust"


@pytest.fixture(scope="module")
def evaluated():
    """`(model, x, y, report)` of images that a small step moves."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(16, 3))
    model = make_linear(weights, shape=(4, 4, 1))
    x = random.uniform(0.2, 0.8, (20, 4, 4, 1)).astype("float32")
    y = model.predict(x, verbose=0).argmax(-1)
    report = kr.evaluate_robustness(
        model, (x, y), "pgd", norm="linf", epsilon=0.05, verbose=0
    )
    return model, x, y, report


def test_shown_examples_are_broken_ones(evaluated):
    model, x, _, report = evaluated
    shown = report.shown
    assert 1 < len(shown.x) <= 8 and shown.attack == "pgd"
    moved = np.abs(shown.x_adv - shown.x)
    assert 0 < moved.max() <= 0.05 + 1e-6
    for images, expected in (
        (shown.x, shown.labels),
        (shown.x_adv, shown.predictions),
    ):
        found = model.predict(images, verbose=0).argmax(-1)
        np.testing.assert_array_equal(found, expected)
    assert (shown.labels != shown.predictions).all()
    rows = np.flatnonzero(~report.correct["pgd"])[: len(shown.x)]
    np.testing.assert_array_equal(shown.x, x[rows])


def test_shown_examples_outlive_a_stop(evaluated, tmp_path):
    model, x, y, report = evaluated
    options = {"norm": "linf", "epsilon": 0.05, "verbose": 0}
    for _ in range(2):
        again = kr.evaluate_robustness(
            model, (x, y), "pgd", state_path=tmp_path, **options
        )
        np.testing.assert_array_equal(again.shown.x_adv, report.shown.x_adv)


@pytest.mark.compiles_much
def test_curves_and_distances_show_examples(evaluated):
    model, x, y, _ = evaluated
    curve = kr.robustness_curve(
        model, (x, y), "l2", [0.1, 0.3], "fgsm", verbose=0, probe=False
    )
    found = kr.minimum_distance(
        model, (x, y), kr.DDNAttack(steps=10), verbose=0, probe=False
    )
    for result in (curve, found):
        assert (result.shown.labels != result.shown.predictions).all()
        assert "Images that were attacked" in result.to_html()


@pytest.mark.compiles_much
def test_what_is_no_image_is_not_shown():
    model = make_linear(np.eye(3))
    x = np.random.default_rng(0).random((12, 3), dtype="float32")
    y = x.argmax(-1)
    report = kr.evaluate_robustness(
        model, (x, y), "pgd", norm="linf", epsilon=0.3, verbose=0
    )
    assert report.accuracy["pgd"] < 1 and report.shown is None
    assert "Images that were attacked" not in report.to_html()
    # Without images nothing is said about pixels.
    assert "every number may change by up to 0.3, it" in report.verdict()


def test_the_page(evaluated, tmp_path):
    model, *_, report = evaluated
    text = report.to_html(tmp_path / "page.html", ["cat", "dog", "<cow>"])
    assert text == (tmp_path / "page.html").read_text("utf-8")
    page = Outline(text)
    assert not page.open and len(page.images) == 2
    assert all(link.startswith("data:") for link in page.links)
    assert all(image["alt"] for image in page.images)
    assert not re.search(r"<(script|link|iframe)|@import|url\(", text)
    plain = html.unescape(text)
    assert report.verdict() in plain
    for name, accuracy in report.accuracy.items():
        assert f"<td>{name}</td><td>{100 * accuracy:.2f}</td>" in plain
    assert report.provenance["model_fingerprint"] in plain
    assert f"<h1>Robustness of {model.name}</h1>" in plain


def test_a_model_of_more_classes_than_names_has_numbers(evaluated):
    *_, report = evaluated
    named = report.shown.plot(["a", "b", "c"])
    assert {axes.get_title()[:1] for axes in named.axes} <= {*"abc", ""}
    numbered = report.shown.plot(["a"])
    assert {axes.get_title()[:1] for axes in numbered.axes} <= {*"012", ""}


def test_flags_are_explained_and_text_is_escaped():
    flags = [
        Flag("randomized", "it changes"),
        Flag("of my own", "<script>alert()</script>"),
    ]
    report = kr.RobustnessReport(
        {"clean": np.ones(4)}, flags, {}, {"model": "<i>net</i>"}
    )
    text = report.to_html()
    assert "What it means: outputs change from call to call." in text
    assert text.count("What to do:") == 1
    assert "<script" not in text and "<i>" not in text
    assert "Robustness of &lt;i&gt;net" in text
    assert "Warnings were raised (randomized, of my own)" in text


def test_several_models_are_named():
    matrix = kr.TransferMatrix(
        ["a"],
        ["a", "b"],
        [[1.0, 0.25]],
        None,
        [[8, 4]],
        (),
        {"model": {"a": "cnn", "b": "mlp"}},
    )
    text = matrix.to_html()
    assert "<h1>Robustness of a (cnn), b (mlp)</h1>" in text
    assert "25 became wrong by an attack on a" in matrix.verdict()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [500, 1400])
def test_in_chromium(evaluated, tmp_path, width):
    *_, report = evaluated
    found = measured_in_chromium(report.to_html(), tmp_path, width)
    assert found["page"] <= found["window"]
    assert len(found["drawn"]) == 2 and min(found["drawn"]) > 100
    assert found["cards"] == len(report.flags)


def facts(**options):
    return {
        "norm": "linf",
        "epsilon": 8 / 255,
        "input_shape": [32, 32, 3],
        "attacks": {
            "a": {"class": "PGDAttack", "config": {"value_range": [0, 1]}}
        },
        **options,
    }


def test_the_verdict_is_what_the_numbers_say():
    report = kr.RobustnessReport(
        {"clean": np.arange(8) < 6, "a": np.arange(8) < 2}, (), {}, facts()
    )
    text = report.verdict()
    assert text.startswith(
        "The model is right on 75 of 100 images. If every pixel value may "
        "change by up to 0.0314 (8 of 255 levels), it is still right on 25 of "
        "100 images (with other images it might be 7 to 59): more than half "
        "of its right answers can be turned wrong."
    )
    assert "No warning was raised." in text and "run AutoAttack" in text
    thorough = {"a": {"class": "AutoAttack", "config": {}}}
    report.provenance["attacks"] = thorough
    assert "run AutoAttack" not in report.verdict()
    clean = kr.RobustnessReport({"clean": np.ones(4)}).verdict()
    for words in ("still right", "AutoAttack", "Attacks"):
        assert words not in clean


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"norm": "l0", "epsilon": 3}, "up to 3 pixel values may be changed"),
        # sqrt(3072) / 255 is one level everywhere.
        (
            {"norm": "l2", "epsilon": 3072**0.5 / 255},
            "L2 (as much as 1 of 255 levels in every pixel value)",
        ),
        ({"input_shape": [7]}, "every number may change by up to 0.0314"),
        ({"norm": ["l2", "linf"]}, "Under the attacks of this evaluation"),
        ({"epsilon": None}, "Under the attacks of this evaluation"),
    ],
)
def test_threats_in_words(options, expected):
    assert expected in threat_text(facts(**options))


def test_judgements_are_in_order():
    found = [judgement(0.8, worst) for worst in (0.0, 0.2, 0.6, 0.8)]
    assert len(set(found)) == 4
    assert "no protection" in found[0] and "nearly all" in found[3]
    assert judgement(0.0, 0.0) == found[0]


def test_curves_say_where_half_is_lost():
    curve = kr.RobustnessCurve(
        [0, 0.1, 0.2],
        np.arange(8) < [[8], [5], [3]],
        "linf",
        "pgd",
        (),
        facts(),
    )
    assert "at most L∞ 0.2 (51 of 255) are enough" in curve.verdict()
    assert "still right on 38 of 100" in curve.verdict()


def test_flags_mean_what_the_guide_says():
    """`MEANINGS` and the table of the guide are one text."""
    guide = (ROOT / "docs" / "models_and_data.md").read_text("utf-8")
    section = guide.split("\n## Flags\n")[1].split("\n## ")[0]
    documented = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            names, *texts = (cell.strip() for cell in line.split("|")[1:-1])
            texts = tuple(text.replace("`", "") for text in texts)
            for name in re.findall("`([^`]*)`", names):
                documented[name] = texts
    assert documented == MEANINGS


def test_every_flag_has_a_meaning():
    raised = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            is_flag = (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Flag"
                and isinstance(node.args[0], ast.Constant)
            )
            if is_flag:
                raised.add(node.args[0].value)
    assert len(raised) > 10
    assert raised - set(MEANINGS) == set()
