"""Scaling studies: plans of runs, their launch, what they cost, and a model of it."""
