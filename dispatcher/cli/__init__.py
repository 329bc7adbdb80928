"""The command line: one file for each group of commands, all on top of `dispatcher.api`."""
