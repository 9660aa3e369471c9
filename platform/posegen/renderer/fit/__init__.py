"""Fitting a subject's field to posed views, and the formats of views that are read."""
