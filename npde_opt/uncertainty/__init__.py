"""What data tell of the unknowns: intervals, directions that they leave open, findings in words."""
