"""The online service: it answers from what was published, as the funnel of that bizdate does."""
