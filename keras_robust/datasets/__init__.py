"""Where images come from."""

from keras_robust.datasets.pipelines import pipeline as pipeline
from keras_robust.datasets.sources import ImageDataset as ImageDataset
from keras_robust.datasets.sources import load as load
