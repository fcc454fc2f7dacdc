"""Training, one module a model family; checkpoints, resuming and precision come from `transformers.Trainer`."""
