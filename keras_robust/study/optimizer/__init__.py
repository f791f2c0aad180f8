"""The search for what decides whether a network learns a data set."""
