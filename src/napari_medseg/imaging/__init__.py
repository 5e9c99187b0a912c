"""Scans and masks on the patient's grid: numpy, nibabel, pydicom. No torch, no Qt."""
