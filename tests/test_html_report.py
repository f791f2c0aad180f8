import html
import html.parser
import json
import re
import shutil
import subprocess

import pytest
from matplotlib.figure import Figure

from keras_robust.study.html_report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Outline(html.parser.HTMLParser):
    """What a test asks of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes)
        if "href" in attributes or "src" in attributes:
            self.links.append(attributes.get("href") or attributes["src"])
        if tag not in ("img", "meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_one_file_without_a_network(smoke_run):
    folder, _ = smoke_run
    text = (folder / "report.html").read_text()
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
    results = json.loads((folder / "results.json").read_text())
    text = html.unescape(text)
    for claim in results["claims"]:
        assert claim["name"] in text and claim["verdict"] in text
    for model in results["models"]:
        assert f'<td class="text">{model}</td>' in text
    for version in results["versions"].values():
        assert version in text
    assert "nan" not in text.lower().split("<h2>")[1]


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
def test_in_chromium(smoke_run, tmp_path, width):
    """It lays out on a phone and on a screen: nothing sticks out."""
    folder, _ = smoke_run
    text = (folder / "report.html").read_text()
    probe = (
        "<script>document.title = JSON.stringify({"
        "page: document.documentElement.scrollWidth,"
        "window: window.innerWidth,"
        "drawn: [...document.images].map(i => i.complete && i.naturalWidth),"
        "claims: document.querySelectorAll('.claim').length})</script>"
    )
    page = tmp_path / "report.html"
    page.write_text(text.replace("</body>", probe + "</body>"))
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"),
            *(f"--window-size={width},900", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search("<title>(.*?)</title>", done.stdout).group(1)
    found = json.loads(title)
    assert found["page"] <= found["window"]
    assert all(size > 100 for size in found["drawn"])
    assert found["claims"] == 14
