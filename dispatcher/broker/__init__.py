"""Redis: the doorbell, the rate limit, and the border that lets only doorbells into a worker."""
