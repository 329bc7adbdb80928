#!/bin/sh
# Submit one lead over HTTP. Needs a running `dispatcher intake`, and INTAKE_KEY from `dispatcher keys create NAME`.
# The key of the submission makes repetitions safe, so curl may repeat whatever was not answered.
set -eu

curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused --max-time 30 \
    "${INTAKE_URL:-http://127.0.0.1:8322}/v1/leads" \
    --header @- \
    --header 'Content-Type: application/json' \
    --header 'Idempotency-Key: order-7' \
    --data '{"phone_number": "+14155550142", "campaign_id": 42, "variables": {"customer_name": "Ada"}}' <<HEADER
Authorization: Bearer $INTAKE_KEY
HEADER
