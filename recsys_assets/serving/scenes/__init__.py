"""Scenes and experiments: rules by which a list is arranged for a place where it is shown."""
