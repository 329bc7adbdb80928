"""What a process of a test may inherit."""

import os


def clean_environment() -> dict[str, str]:
    """The environment without anything that the dispatcher or Celery reads."""
    ours = ("DISPATCHER_", "VOICERY_", "DATABASE_URL", "REDIS_URL", "CELERY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
