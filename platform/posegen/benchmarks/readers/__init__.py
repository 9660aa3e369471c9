"""Readers of data sets in their original layouts."""
