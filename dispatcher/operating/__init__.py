"""What operators do and ask: the use cases behind the command line and the console."""
