"""Generation on the engines that Apache Beam runs on."""

import os
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from keras_robust.datasets.generation import Generation


def generate_on_beam(
    transform: Any,
    source: Any,
    directory: str | os.PathLike,
    pipeline_options: Any = None,
    **options: Any,
) -> Any:
    """`datasets.generate` as a Beam pipeline: the same bytes.

    Each shard is a function of its number, so the pipeline is a map over
    numbers; Flink, Spark, Dataflow or the local runner share them out. All
    workers see the same `directory`, and have the same packages and Keras
    backend.

    Args:
        transform: As in `datasets.generate`; travels to the workers with its
            model.
        source: As in `datasets.generate`, but no `tf.data.Dataset`.
        directory: As in `datasets.generate`.
        pipeline_options: `beam.options.pipeline_options.PipelineOptions`, a
            list of its flags, or `None`.
        **options: `config`, `name`, `split`, `examples`, `dtype`,
            `file_format`, `shard_size`, `class_names` as in
            `datasets.generate`.

    Returns:
        Folder of the data set.

    Example:

    ```python
    generate_on_beam(to_rand, "cifar10", "data", ["--runner=FlinkRunner"])
    ```
    """
    if isinstance(pipeline_options, (list, tuple)):
        pipeline_options = beam.options.pipeline_options.PipelineOptions(
            list(pipeline_options)
        )
    arguments = (transform, source, str(directory))
    generation = Generation(*arguments, **options)
    with generation.shards.lock("beam"):
        with beam.Pipeline(options=pipeline_options) as pipeline:
            _ = (
                pipeline
                | beam.Create(generation.missing())
                # Or one worker gets them all.
                | beam.Reshuffle()
                | beam.ParDo(_MakeShard(arguments, options))
            )
    generation.close()
    with generation.shards.lock():
        generation.shards.sweep()
        return generation.finalize()


class _MakeShard(beam.DoFn):
    """Makes the shards whose numbers it is given."""

    def __init__(self, arguments: Any, options: dict[str, Any]) -> None:
        self._arguments = arguments
        self._options = options
        self._generation = None

    def setup(self) -> None:
        """Once per worker: the model, the source."""
        self._generation = Generation(*self._arguments, **self._options)

    def teardown(self) -> None:
        """At the end of the worker."""
        if self._generation is not None:
            self._generation.close()

    def process(self, shard: Any) -> Iterator:
        """Makes one shard, unless an earlier try has."""
        if self._generation.shards.entry(shard) is None:
            self._generation.make([shard], verbose=0)
        yield shard
