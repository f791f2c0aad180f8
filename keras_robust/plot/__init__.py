"""Pictures of images, attacks and evaluations."""

from keras_robust.plot.diagrams import curves as curves
from keras_robust.plot.images import images as images
from keras_robust.plot.style import Picture as Picture
