"""Hyper-parameter search: spaces in MetaSpore's YAML form, studies that survive a kill, and the models' objectives."""
