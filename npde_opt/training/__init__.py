"""Training of networks: samples and where they come from, cases, runs and what these leave."""
