"""Overlap, surface and detection metrics, classification metrics, reports."""
