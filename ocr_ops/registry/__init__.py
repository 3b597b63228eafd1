"""MLflow, seen from the toolkit: runs, versions of models and releases, aliases. The only importer of mlflow."""

from ocr_ops.registry.registry import Alias, ModelVersion, Registry

__all__ = ["Alias", "ModelVersion", "Registry"]
