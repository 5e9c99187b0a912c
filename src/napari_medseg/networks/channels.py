"""Channels of a view: the input that the click network and the classifiers built on it share. Needs no torch."""

from __future__ import annotations

IMAGE, WINDOW, PREVIOUS, POSITIVE, NEGATIVE, BOX, VALID = range(7)
N_CHANNELS = 7
