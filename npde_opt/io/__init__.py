"""Reading what users have and writing what they keep: fields, VTK, run folders, checkpoints, figures."""
