"""The data of a bizdate: ingested tables, samples of events, and features."""
