"""The nouns: what every other room speaks about. Imports nothing of the toolkit."""
