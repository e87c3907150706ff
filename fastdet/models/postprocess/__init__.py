"""Post-processing: predictions become detections of fixed shape."""
