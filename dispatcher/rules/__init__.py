"""The decisions: states, backoff, policy, gates and verdicts. Pure functions of values; the clock is an argument."""
