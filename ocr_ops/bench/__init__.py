"""Measure: accuracy and cost of bundles and releases on labelled pages."""
