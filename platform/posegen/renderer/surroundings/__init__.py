"""What is around a person: backgrounds, photos, light and the camera's faults."""
