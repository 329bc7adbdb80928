"""What is tested: a shop that has buyers called."""

import dispatcher


def order_paid(order_id: int, phone_number: str) -> str:
    """Have the buyer of an order called; return the state of the lead."""
    lead = {"phone_number": phone_number, "campaign_id": 42, "variables": {"order": str(order_id)}}
    return dispatcher.submit(lead, idempotency_key=f"order-{order_id}").state
