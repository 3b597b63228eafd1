"""Thin BentoML services: detection and recognition run one model each, the gateway answers documents."""
