"""Where images come from and go to."""

from keras_robust.datasets.generate import generate as generate
from keras_robust.datasets.generation import Generation as Generation
from keras_robust.datasets.pipelines import pipeline as pipeline
from keras_robust.datasets.sources import ImageDataset as ImageDataset
from keras_robust.datasets.sources import load as load
