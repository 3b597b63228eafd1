"""Datasets on disk, readers of the formats of the field, and the synthetic renderer."""
