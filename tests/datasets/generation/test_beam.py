import numpy as np
import pytest

from keras_robust.datasets import generate
from tests.datasets.generation.helpers import contents
from tests.datasets.generation.helpers import to_rand
from tests.helpers import make_cnn


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_two_workers_write_the_same_bytes(tmp_path):
    from keras_robust.datasets.generation.beam import generate_on_beam

    random = np.random.default_rng(7)
    source = random.random((50, 6, 6, 2), dtype="float32"), np.arange(50) % 3
    transform = to_rand(make_cnn())
    alone = generate(
        transform, source, tmp_path / "a", shard_size=10, verbose=0
    )["directory"]
    folder = generate_on_beam(
        transform,
        source,
        directory=tmp_path / "b",
        pipeline_options=[
            "--runner=DirectRunner",
            "--direct_num_workers=2",
            "--direct_running_mode=multi_processing",
        ],
        shard_size=10,
    )
    assert contents(folder) == contents(alone)
