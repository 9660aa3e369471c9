"""MLflow: where a run's numbers go, and its pages."""
