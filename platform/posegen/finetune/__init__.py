"""Fine-tuning of an estimator on a mix of real and generated rows, in plain torch."""
