"""The only Qt and napari code: thin panels, the layer bridge, reader, writer and sample hooks."""
