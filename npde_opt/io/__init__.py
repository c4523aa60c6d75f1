"""Reading what users have and writing what they keep: fields, tables, VTK, checkpoints, results."""
