"""Pre-training of an embedded estimator: fresh pictures of its source, and a training that follows the clock."""
