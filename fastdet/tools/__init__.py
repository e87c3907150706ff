"""Small programs around configs, checkpoints, datasets and logs."""
