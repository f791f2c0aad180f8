"""What is installed here."""

import importlib.metadata

from keras_robust.version import __version__

_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")


def installed_versions():
    """Versions of this package and of those that results depend on.

    Returns:
        Dictionary of strings by package; what is not installed is left out.
    """
    found = {"keras_robust": __version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
