"""Benchmark-and-deploy toolkit for OCR models."""

# Written here, not read from installed metadata: inside a Bento this package is source, not a distribution.
__version__ = "0.1.0"
