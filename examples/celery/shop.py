"""A task of an application's own Celery app, which is not that of the dispatcher's workers: `celery -A shop worker`."""

import os

from celery import Celery

import dispatcher

app = Celery("shop", broker=os.environ["REDIS_URL"])
app.conf.task_default_queue = "shop"
app.conf.task_ignore_result = True


@app.task(autoretry_for=(dispatcher.StoreUnavailable,), retry_backoff=True, max_retries=None)
def order_paid(order_id: int, phone_number: str) -> None:
    """Submit the lead of an order. However often the task runs, the key makes it one lead."""
    lead = {"phone_number": phone_number, "campaign_id": 42, "variables": {"order": str(order_id)}}
    dispatcher.submit(lead, idempotency_key=f"order-{order_id}")
