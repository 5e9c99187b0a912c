"""Prompts, click and automatic segmentation, sliding window."""
