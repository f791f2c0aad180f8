"""The site's pages, held to the package without importing it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "keras_robust"
API = ROOT / "docs" / "api"
# No objects with documentation of their own.
NOT_ON_PAGES = {"__version__", "__getattr__"}


def public_names(path):
    """`{name: module that it is imported from}` of an `__init__.py`."""
    return {
        alias.asname: node.module
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }


def path_of(package, name):
    """The path by which a page names an object of a package.

    A module of the same name hides it from a program that reads the sources:
    the path is then the one through that module.
    """
    module = public_names(PACKAGE / package / "__init__.py")[name]
    hidden = (PACKAGE / package / f"{name}.py").exists()
    return f"{module if hidden else 'keras_robust.' + package}.{name}"


def documented(pages="*.md"):
    """What the API pages have directives for."""
    return [
        path
        for page in sorted(API.glob(pages))
        for path in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.M)
    ]


TOP = public_names(PACKAGE / "__init__.py")
PACKAGES = sorted(
    name for name, module in TOP.items() if module == "keras_robust"
)
OBJECTS = {
    name: path_of(module.removeprefix("keras_robust."), name)
    for name, module in TOP.items()
    if module != "keras_robust" and name not in NOT_ON_PAGES
}


def test_every_public_name_has_its_place():
    pages = documented()
    assert len(OBJECTS) > 20 and len(PACKAGES) > 10
    assert set(OBJECTS.values()) - set(pages) == set()
    assert len(pages) == len(set(pages))


def test_the_overview_links_to_every_public_name():
    overview = (API / "index.md").read_text("utf-8")
    for name in PACKAGES:
        assert f"[`{name}`]({name}.md)" in overview
    for name, path in OBJECTS.items():
        assert f"[`{name}`][{path}]" in overview


@pytest.mark.parametrize("package", [*PACKAGES, "evaluation", "training"])
def test_every_name_of_a_package_is_on_its_page(package):
    names = {
        path_of(package, name)
        for name, module in public_names(
            PACKAGE / package / "__init__.py"
        ).items()
        # The others are documented where they come from.
        if f"{module}.".startswith(f"keras_robust.{package}.")
    }
    assert names
    assert names - set(documented(f"{package}.md")) == set()


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:")[1]
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert re.search(rf"[ :]{re.escape(name)}$", navigation, re.M), name
