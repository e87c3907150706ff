"""Whole detectors beside their peers."""
