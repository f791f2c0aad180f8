import re
from pathlib import Path

import numpy as np
import pytest

import keras_robust as kr

GUIDE = Path(__file__).parent.parent / "docs" / "generated_data.md"


@pytest.mark.slow_on_jax
def test_the_guide_as_written(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    x, y = kr.datasets.load("digits").train
    np.save("images.npy", x[:60])
    np.save("labels.npy", y[:60])
    kr.models.small_cnn((8, 8, 1), filters=(4,)).save("classifier.keras")
    make, read, from_torch = re.findall(
        r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL
    )
    for long, short in (("epochs=20", "epochs=1"), ("steps=1000", "steps=2")):
        assert long in make
        make = make.replace(long, short)
    names = {}
    exec(make, names)
    exec(read, names)
    labels = [int(label) for _, label in names["train"]]
    assert labels == y[:60].tolist()
    # The same set, for random access.
    again = make.replace(
        'name="my_images"', 'name="my_images", file_format="array_record"'
    )
    exec(again.replace('"data"', '"random_access"'), names)
    exec(from_torch.replace('"data"', '"random_access"'), names)
    images, labels = next(iter(names["loader"]))
    assert images.shape == (60, 1, 8, 8) and images.dtype == torch.float32
    assert sorted(labels.tolist()) == sorted(y[:60].tolist())
