"""The failure atlas: where an estimator fails, how often, under what conditions, and what generated data are like."""
