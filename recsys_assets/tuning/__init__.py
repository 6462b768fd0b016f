"""Hyper-parameter search: spaces in MetaSpore's YAML form, studies that survive a kill, what each kind of model is."""
