"""What tests of several tiers share: servers, databases, worker processes, waiting."""
