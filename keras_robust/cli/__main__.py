"""`python -m keras_robust.cli`."""

import sys

from keras_robust.cli import main

sys.exit(main())
