"""Torch modules and nothing else."""
