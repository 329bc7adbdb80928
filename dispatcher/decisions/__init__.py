"""Pure decisions: what an answer means, what happens next. No I/O."""
