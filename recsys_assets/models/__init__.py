"""Methods: one short file a model."""
