"""A run from its first to its last line: its folder, what it goes on from, what it leaves."""
