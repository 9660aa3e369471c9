"""Metrics, intervals and the results that hold them."""
