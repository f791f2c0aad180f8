"""What tests of HTML pages ask of them."""

import html.parser
import json
import re
import shutil
import subprocess

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


def measured_in_chromium(text, folder, width):
    """Widths of a page and of its window, of its images; how many cards."""
    probe = (
        "<script>document.title = JSON.stringify({"
        "page: document.documentElement.scrollWidth,"
        "window: window.innerWidth,"
        "drawn: [...document.images].map(i => i.complete && i.naturalWidth),"
        "cards: document.querySelectorAll('.claim').length})</script>"
    )
    page = folder / "page.html"
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
    return json.loads(re.search("<title>(.*?)</title>", done.stdout).group(1))
