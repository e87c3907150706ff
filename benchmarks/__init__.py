"""Benchmarks of the ops against their peers; `python -m fastdet.bench` prints the tables."""
