"""The command line: thin over `dispatcher.runtime`, one file per group of commands."""
