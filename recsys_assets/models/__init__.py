"""Methods: one short file per model."""
