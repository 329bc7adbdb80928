"""The command line: thin over `dispatcher.api`, one file per group of commands."""
