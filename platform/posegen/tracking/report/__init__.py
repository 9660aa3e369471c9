"""The report of a run: figures, galleries, findings, one HTML file."""
