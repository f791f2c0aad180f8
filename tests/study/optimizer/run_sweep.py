"""A process of a search: `python run_sweep.py FOLDER [TRAININGS]`.

With a second argument it waits after so many trainings, so that a test can
kill it in the middle.
"""

import sys
import time

from keras_robust.study import sweep
from keras_robust.study.optimizer import search

if __name__ == "__main__":
    if len(sys.argv) > 2:
        line, trained = search._line, []

        def waiting(found):
            trained.append(found)
            if len(trained) == int(sys.argv[2]):
                time.sleep(600)
            return line(found)

        search._line = waiting
    sweep(
        "digits",
        output=sys.argv[1],
        preset="smoke",
        optimizers=("sgd", "adam"),
        learning_rate_factor=100,
        epochs=1,
        seeds=2,
    )
