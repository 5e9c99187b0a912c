"""Corrections, synthetic data, losses, strategies, fine-tuning and the gate."""
