"""A network with its weights, labels and provenance: checkpoints and the library of versions."""
