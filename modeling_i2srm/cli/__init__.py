"""The command lines of the scripts."""
