"""The command line, with a module for each command."""

from keras_robust.cli.main import build_parser as build_parser
from keras_robust.cli.main import main as main
