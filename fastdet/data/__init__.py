"""Datasets, transforms, batches, loaders, checks and converters.

Importing this package imports no torch; `fastdet.data.datasets` and `fastdet.data.transforms` register their parts
when imported.
"""
