"""Heads: the parameters that turn features into predictions."""
