"""A network with its weights, labels and provenance; the library of versions."""
