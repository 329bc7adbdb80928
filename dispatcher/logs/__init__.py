"""What the dispatcher tells its log, and how no person and no token gets into it."""
