"""What stands around the package agrees with it, and with itself."""

import configparser
import re
from pathlib import Path

import pytest

import keras_robust as kr
from tests.test_architecture import MAY_IMPORT

ROOT = Path(__file__).parent.parent
PAGES = sorted(ROOT.glob("*.md"))
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(text):
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for path, anchor in LINK.findall(page.read_text("utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), anchor


def test_anchors_are_those_of_headings():
    found = anchors("# A page\n\ntext\n\n## D_R, and `x` - why?\n")
    assert found == {"a-page", "d_r-and-x---why"}


def test_one_version():
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## (\S+)", changes, flags=re.MULTILINE).group(1)
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    cited = re.search(r"^version: (.*)$", citation, flags=re.MULTILINE)
    assert kr.__version__ == newest == cited.group(1)


def test_the_picture_of_the_packages():
    """Each package stands above all that it may import."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    picture = re.search(r"```text\n(.*?)```", text, flags=re.DOTALL).group(1)
    height = {
        package: -line
        for line, packages in enumerate(picture.splitlines())
        for package in packages.split()
    }
    assert set(height) == set(MAY_IMPORT)
    for package, below in MAY_IMPORT.items():
        for other in below:
            assert height[package] > height[other], (package, other)


def test_files_of_the_package_are_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    package = ROOT / "keras_robust"
    patterns = config["options.package_data"]["keras_robust"].split()
    installed = {path for each in patterns for path in package.glob(each)}
    others = {
        path
        for path in package.rglob("*")
        if path.is_file()
        and path.suffix not in (".py", ".pyc")
        and "__pycache__" not in path.parts
    }
    assert others and others == installed


def test_workflows_run_the_steps_of_the_script():
    steps = {
        match
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for match in re.findall(r"\.ci/run (\w+)", path.read_text("utf-8"))
    }
    assert steps == {"install", "lint", "docs", "test"}
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    for step in steps:
        assert re.search(rf"^  {step}\) ", script, flags=re.MULTILINE)
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8")
    listed = re.search(r"backend: \[(.*)\]", workflow).group(1)
    assert listed.split(", ") == ["tensorflow", "jax", "torch"]
    assert f"for backend in {listed.replace(',', '')};" in script
