"""Packages import one way only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Each may import from those of earlier lines, and from its own line.
ORDER = (
    ("backend", "layers", "utils"),
    ("classifier",),
    ("models", "datasets"),
    ("attacks",),
    ("training", "transforms", "evaluation"),
    ("datasets.generation",),
    ("features", "theory"),
    ("study",),
    ("cli",),
)
RANKS = {name: rank for rank, line in enumerate(ORDER) for name in line}
# What these share with users under a fixed name is made further up.
EXCEPTIONS = {"datasets/__init__.py"}


def package_of(module):
    """`"attacks"` of `"keras_robust.attacks.pgd"`, or `None`."""
    parts = module.split(".")[1:]
    names = (".".join(parts[:2]), parts[0] if parts else "")
    return next((name for name in names if name in RANKS), None)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", RANKS)
def test_imports_run_one_way(package):
    folder = ROOT / "keras_robust" / package.replace(".", "/")
    wrong = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(ROOT / "keras_robust").as_posix()
        own = package_of("keras_robust." + name[:-3].replace("/", "."))
        if own != package or name in EXCEPTIONS:
            continue
        for module in imported(path):
            other = package_of(module) if "keras_robust" in module else None
            if other and RANKS[other] > RANKS[package]:
                wrong.append(f"{name}: {module}")
    assert wrong == []
