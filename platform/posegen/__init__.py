"""PoseGen on Ray: find and fix the blind spots of a 3D human pose estimator."""

__version__ = "0.1.0"
