"""Networks, their training, tuning and export: the only room that imports torch."""
