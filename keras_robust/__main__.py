"""`python -m keras_robust`: the command line."""

import sys

from keras_robust.cli import main

sys.exit(main())
