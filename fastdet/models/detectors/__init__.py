"""Detectors: compositions of backbone, neck, heads and stages."""
