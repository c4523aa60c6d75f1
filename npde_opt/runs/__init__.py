"""What a run does from its case to its summary."""
