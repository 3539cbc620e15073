"""Metrics of two masks and a spacing: overlap, surfaces, lesions, centre lines, pieces."""
