"""Benchmarks: protocols, metrics, intervals and readers of the data sets that users have on disk."""
