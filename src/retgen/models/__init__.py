"""Neural modules with `encode` and `step`, and their saving and loading: no search, no training."""
