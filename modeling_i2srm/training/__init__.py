"""Training: tasks, arguments, trainer, checkpoints, metrics, reports."""
