"""Submit one lead, and say what became of the submission."""

import dispatcher

lead = dispatcher.Lead(phone_number="+14155550100", campaign_id=42, variables={"customer_name": "Ada"})

try:
    submission = dispatcher.submit(lead, idempotency_key="order-7")
except dispatcher.InvalidLead as refusal:
    print("Refused:", refusal)
else:
    print(submission.id, submission.state)
