"""The software and the machine that results depend on."""

import importlib.metadata
import importlib.util
import os
import platform

from keras_robust.version import __version__

_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it.

    Args:
        package: Name by which it is imported.
    """
    return importlib.util.find_spec(package) is not None


def installed_versions() -> dict[str, str]:
    """Versions of this package and of those that results depend on.

    Returns:
        Version by package, of those that are installed.
    """
    found = {"keras_robust": __version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Number and name of the processors."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line for line in file if line.startswith("model name")]
    except OSError:
        names = []
    if names:
        processor = names[0].split(":", 1)[1].strip()
    return f"{os.cpu_count()} x {processor}"
