"""Run a bundle: from the bytes of a document to lines of words. What serving needs, and no more."""
