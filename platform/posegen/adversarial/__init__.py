"""The generator-renderer-estimator loop, in plain torch."""
