"""The software and the machine that results depend on."""

import importlib.metadata
import importlib.util
import os
import platform
from collections import Counter
from pathlib import Path

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
    """Number and name of the processors, and of NVIDIA's GPUs."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line for line in file if line.startswith("model name")]
    except OSError:
        names = []
    if names:
        processor = names[0].split(":", 1)[1].strip()
    parts = [f"{os.cpu_count()} x {processor}"]
    parts += [f"{count} x {name}" for name, count in Counter(gpus()).items()]
    return ", ".join(parts)


def gpus(
    folder: str | os.PathLike[str] = "/proc/driver/nvidia/gpus",
) -> list[str]:
    """Names of NVIDIA's GPUs, as their driver on Linux tells them.

    Args:
        folder: Where the driver has a folder for each of them.
    """
    names = []
    for path in sorted(Path(folder).glob("*/information")):
        for line in path.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                names.append(value.strip())
    return names
