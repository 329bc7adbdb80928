"""What `celery -A dispatcher worker` runs: the tasks, the sweep at its side, and a gentle end."""
