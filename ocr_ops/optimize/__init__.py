"""Optimise: cheaper variants of a bundle."""
