import threading
import time

import pytest

from keras_robust.utils.threads import BackgroundWriter
from keras_robust.utils.threads import prefetch


def test_prefetch_keeps_order_and_reads_no_further_than_asked():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    reader = prefetch(items(), size=2)
    assert [next(reader) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.3)
    # Three taken, two waiting, one in hand.
    assert len(made) <= 6
    reader.close()
    assert threading.active_count() == 1 or "work" not in str(
        threading.enumerate()
    )
    assert list(prefetch(range(50), size=3)) == list(range(50))


def test_errors_come_out_of_prefetch():
    def items():
        yield 1
        raise OSError("unreadable")

    reader = prefetch(items())
    assert next(reader) == 1
    with pytest.raises(OSError, match="unreadable"):
        next(reader)


def test_the_writer_keeps_order_and_tells_of_errors():
    seen = []
    writer = BackgroundWriter(seen.append)
    for i in range(20):
        writer.put(i)
    writer.close()
    assert seen == list(range(20))

    def full(item):
        raise OSError("disk full")

    writer = BackgroundWriter(full)
    writer.put(1)
    with pytest.raises(OSError, match="disk full"):
        writer.close()
    writer.stop()
