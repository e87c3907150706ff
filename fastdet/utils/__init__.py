"""Small helpers that every room may use: errors, logging, seeds, downloads, environment."""
