"""What `celery -A dispatcher worker` runs: the tasks, the sweep process, and the shutdown."""
