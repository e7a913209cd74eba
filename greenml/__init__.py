"""Train image classifiers and know what every epoch cost."""

__version__ = "0.1.0"
