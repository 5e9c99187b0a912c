"""Classifiers, features, similarity, saliency."""
