"""Machine learning of complete intersection Calabi-Yau four-folds (CICY four-folds)."""

__version__ = "0.1.0"
