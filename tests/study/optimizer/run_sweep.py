"""A process of a search: `python run_sweep.py FOLDER [SECONDS]`.

With a second argument it waits that long after every training, so that a test
can kill it in the middle.
"""

import sys
import time

from keras_robust.study import sweep
from keras_robust.study.optimizer import search

if __name__ == "__main__":
    if len(sys.argv) > 2:
        line = search._line

        def slowly(found):
            time.sleep(float(sys.argv[2]))
            return line(found)

        search._line = slowly
    sweep(
        "digits",
        output=sys.argv[1],
        preset="smoke",
        optimizers=("sgd", "adam"),
        learning_rate_factor=100,
        epochs=1,
        seeds=2,
    )
