"""The one place that states the version; imports nothing."""

__version__ = "0.1.0"
