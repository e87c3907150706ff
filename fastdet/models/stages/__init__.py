"""Stages: what a head is trained for, and how its output is read."""
