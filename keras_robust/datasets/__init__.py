"""Image data sets by name, pipelines, and generated data sets."""

from keras_robust.datasets.generation.generate import generate as generate
from keras_robust.datasets.generation.generation import Generation as Generation
from keras_robust.datasets.image_dataset import ImageDataset as ImageDataset
from keras_robust.datasets.pipelines import pipeline as pipeline
from keras_robust.datasets.planted import PlantedFeatures as PlantedFeatures
from keras_robust.datasets.planted import planted_features as planted_features
from keras_robust.datasets.sources import load as load
from keras_robust.datasets.specification import (
    DataSpecification as DataSpecification,
)
from keras_robust.datasets.specification import LabelledImages as LabelledImages
