"""The funnel: recall by several channels, one merged list of candidates, ranking, and its evaluation."""
