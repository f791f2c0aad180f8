"""The engine of all attacks: loops, compilation, batches, search."""
