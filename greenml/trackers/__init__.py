"""The rows of a run, also for MLflow and Weights & Biases."""
