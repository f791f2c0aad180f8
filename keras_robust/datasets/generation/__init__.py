"""Generated data sets on disk: sources, shards, records, checks."""
