import copy
import html
import json
import re

import pytest
from matplotlib.figure import Figure

from keras_robust.study.replication import figures
from keras_robust.study.replication import tables
from keras_robust.study.replication.html_report import write_report
from keras_robust.study.replication.running import judge
from tests.html_pages import CHROMIUM
from tests.html_pages import Outline
from tests.html_pages import measured_in_chromium


@pytest.fixture(scope="module")
def judged(smoke_run, tmp_path_factory):
    """The report of the smoke run with its claims judged: `(results, text)`."""
    results = json.loads((smoke_run[0] / "results.json").read_text())
    results["recipe"]["too_small"] = False
    results.update(judge(results["runs"], results["recipe"]))
    drawn = {
        "bars": figures.draw_bars(results),
        "curves": figures.draw_curves(results),
        "images": Figure(),
        "transfer": figures.draw_transfer(results),
    }
    path = tmp_path_factory.mktemp("judged") / "report.html"
    write_report(results, drawn, path)
    return results, path.read_text()


def test_smoke_says_that_it_is_too_small(smoke_run):
    text = (smoke_run[0] / "report.html").read_text()
    assert "too small to show anything" in text
    assert 'class="claim ' not in text


def test_it_opens_with_what_was_shown(judged):
    results, text = judged
    shown = sum(claim["verdict"] == "shown" for claim in results["claims"])
    opening = text[: text.index("<h2>Accuracy")]
    assert re.search(rf"{shown} of \d+ claims shown", opening)
    assert html.escape("smallest radius at which") in opening
    assert opening.count('<section class="claim ') == len(results["claims"])
    # What these images cannot decide, with the reason.
    assert "Reason: the linear features are robust at L2 0.25" in opening
    # Those that are shown stand first.
    places = [
        opening.index(f"<h3>{claim['name']}</h3>")
        for verdict in ("shown", "not shown", "cannot be decided")
        for claim in results["claims"]
        if claim["verdict"] == verdict
    ]
    assert places == sorted(places)


def test_radii_of_the_am207_report_have_a_table_of_their_own(judged, tmp_path):
    results, text = judged
    assert "radii of the AM207 report" not in text
    results = copy.deepcopy(results)
    results["recipe"]["errors"] = ["broken_linf"]
    columns = ("pgd-linf-0.25", "broken-linf-0.5")
    for figures_of in results["summary"].values():
        figures_of.update({name: figures_of["clean"] for name in columns})
    drawn = {name: Figure() for name in ("bars", "curves", "images")}
    write_report(results, drawn, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    first, second = text.split("At the L-infinity radii of the AM207 report")
    for name in columns:
        assert name not in first and name in second
    tables.write_table(results, tmp_path / "table.md")
    first, second = (tmp_path / "table.md").read_text().split("AM207 report:")
    for name in columns:
        assert name not in first and name in second


def test_one_file_without_a_network(judged):
    results, text = judged
    page = Outline(text)
    assert not page.open
    embedded = [link for link in page.links if link.startswith("data:")]
    assert len(embedded) == len(page.images) == 4
    # All that is left is a link that a reader may follow.
    assert set(page.links) - set(embedded) == {
        "https://arxiv.org/abs/1905.02175"
    }
    assert not re.search(r"<(script|link|iframe)|@import|url\(", text)
    # Whoever does not see a figure is told what it shows.
    assert all(len(image["alt"]) > 40 for image in page.images)
    text = html.unescape(text)
    for claim in results["claims"]:
        assert claim["name"] in text and claim["verdict"] in text
    for model in results["models"]:
        assert f'<td class="text">{model}</td>' in text
    for version in results["versions"].values():
        assert version in text
    assert "nan" not in text.lower().split("<h2>")[1]


def test_measures_have_tables(smoke_run):
    text = (smoke_run[0] / "report.html").read_text()
    for title in ("What generated images are nearest to", "Robust accuracy of"):
        assert title in text
    assert "other has the label" in text
    # Not measured in this recipe.
    assert "AutoAttack" not in text


def test_text_is_escaped(smoke_run, tmp_path):
    folder, _ = smoke_run
    results = json.loads((folder / "results.json").read_text())
    results["machine"] = "<script>2 cores</script>"
    drawn = {name: Figure() for name in ("bars", "curves", "images")}
    write_report(results, drawn, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text and "&lt;script&gt;2 cores" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [500, 1280])
def test_in_chromium(judged, tmp_path, width):
    """It lays out on a phone and on a screen: nothing sticks out."""
    _, text = judged
    found = measured_in_chromium(text, tmp_path, width)
    assert found["page"] <= found["window"]
    assert all(size > 100 for size in found["drawn"])
    assert found["cards"] == 14
