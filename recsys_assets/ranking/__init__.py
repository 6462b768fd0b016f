"""What is made of rankers' figures and scores: the choice of the one to serve, intervals, slices."""
