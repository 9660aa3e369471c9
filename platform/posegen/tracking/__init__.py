"""What a run leaves to look at: MLflow runs, pictures, plots, the report, the comparison of runs."""
