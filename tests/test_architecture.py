"""The package is held to its layout: imports one way, short files."""

import ast
from graphlib import CycleError
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "keras_robust"
MAX_FILE_LINES = 500
# Lines of a function besides its docstring.
MAX_FUNCTION_LINES = 80

# What each part of the package may import besides itself and `utils`. A part is
# a folder, here by its path with dots; modules beside the folders count as
# `utils`.
MAY_IMPORT = {
    "utils": (),
    "backend": (),
    "layers": ("backend",),
    "plot": (),
    "theory": (),
    "classifier": ("backend", "layers"),
    "models": ("classifier", "layers"),
    "datasets": ("layers",),
    "attacks": ("backend", "classifier"),
    "objectives": ("attacks", "backend"),
    "callbacks": ("attacks",),
    "training": ("attacks", "backend", "classifier", "layers", "objectives"),
    "transforms": (
        "attacks",
        "backend",
        "classifier",
        "datasets",
        "models",
        "plot",
    ),
    "certify": (
        "attacks",
        "backend",
        "classifier",
        "datasets",
        "evaluation",
        "layers",
        "plot",
    ),
    "corruptions": ("attacks", "datasets"),
    "evaluation": (
        "attacks",
        "backend",
        "classifier",
        "corruptions",
        "datasets",
        "plot",
    ),
    "datasets.generation": ("classifier", "datasets", "plot", "transforms"),
    "features": (
        "attacks",
        "classifier",
        "datasets",
        "evaluation",
        "plot",
        "transforms",
    ),
    "study": (
        "attacks",
        "backend",
        "classifier",
        "datasets",
        "evaluation",
        "layers",
        "models",
        "plot",
        "training",
        "transforms",
    ),
    "cli": (
        "attacks",
        "datasets",
        "datasets.generation",
        "evaluation",
        "study",
        "transforms",
    ),
}
# `datasets.generate` is a public name of `datasets`, made further up.
EXCEPTIONS = {
    "keras_robust.datasets: keras_robust.datasets.generation.generate",
    "keras_robust.datasets: keras_robust.datasets.generation.generation",
}

PATHS = sorted(PACKAGE.rglob("*.py"))


def module_name(path, root=ROOT):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PATHS}


def part_of(module):
    """The part of the package that a module belongs to, `None` for the top."""
    name = module.partition(".")[2]
    if name in ("", "__main__"):
        return None
    while name:
        if name in MAY_IMPORT:
            return name
        name = name.rpartition(".")[0]
    return "utils"


def imports_of(tree, known):
    """`(module, whether it is imported with the file)` of each import."""
    waiting = [(tree, True)]
    while waiting:
        node, at_once = waiting.pop()
        if isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If)
            and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            at_once = False
        waiting += [(child, at_once) for child in ast.iter_child_nodes(node)]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [
                name if name in known else node.module or "" for name in whole
            ]
        else:
            continue
        yield from ((name, at_once) for name in names if name in known)


def imports_of_module(module):
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    return list(imports_of(tree, MODULES))


def test_parts_are_in_an_order():
    list(TopologicalSorter(MAY_IMPORT).static_order())
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": "b", "b": "a"}).static_order())


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_parts_import_one_way(part):
    found = {
        f"{module}: {imported}"
        for module in MODULES
        if part_of(module) == part
        for imported, _ in imports_of_module(module)
        if part_of(imported) not in (part, "utils", *MAY_IMPORT[part], None)
    }
    assert found - EXCEPTIONS == set()


def test_modules_import_without_circles():
    graph = {
        module: {
            imported
            for imported, at_once in imports_of_module(module)
            if at_once
        }
        for module in MODULES
    }
    list(TopologicalSorter(graph).static_order())


def test_imports_are_found():
    tree = ast.parse(
        "import a.b\nfrom a import c\nif TYPE_CHECKING:\n import a.d\n"
        "def f():\n from a.e import g\n"
    )
    known = {"a", "a.b", "a.c", "a.d", "a.e"}
    assert sorted(imports_of(tree, known)) == [
        ("a.b", True),
        ("a.c", True),
        ("a.d", False),
        ("a.e", False),
    ]
    assert part_of("keras_robust.utils.messages") == "utils"
    assert part_of("keras_robust.layers.dirac") == "layers"
    assert part_of("keras_robust") is None


def test_files_are_short():
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PATHS
        if len(path.read_text("utf-8").splitlines()) > MAX_FILE_LINES
    }
    assert found == set()


def function_lengths(tree):
    """Names of functions with their lines besides docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            documentation = 0
            if ast.get_docstring(node) is not None:
                documentation = first.end_lineno - first.lineno + 1
            yield node.name, node.end_lineno - node.lineno + 1 - documentation


def test_functions_fit_a_screen():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {name}"
        for path in PATHS
        for name, lines in function_lengths(ast.parse(path.read_text("utf-8")))
        if lines > MAX_FUNCTION_LINES
    }
    assert found == set()


def test_lengths_of_functions():
    tree = ast.parse('def f():\n  """A\n\n  B."""\n  return 1\n')
    assert list(function_lengths(tree)) == [("f", 2)]
