"""A fuzzer: random Keras models and data, and what must hold for each."""
