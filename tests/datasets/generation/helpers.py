"""Sets that the tests of generation make and read."""

from pathlib import Path

import keras_robust as kr


def to_rand(model, **options):
    return kr.NonRobustifier(
        model, steps=3, **{"seed": 5, "batch_size": 8, **options}
    )


def contents(folder):
    """All that a reader sees, byte for byte."""
    return {
        path.name: path.read_bytes()
        for path in Path(folder).iterdir()
        if path.is_file()
    }
