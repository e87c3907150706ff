"""Pictures of detections, and the report of a training or test as one page."""
