"""The funnel: what it reads, the lists of its steps, and the asset that learns it."""
