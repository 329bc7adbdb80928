"""Redis: the doorbell, the rate limit, and the transport that accepts only doorbells."""
