"""Which channels have leads that wait, however many those are."""

from typing import Final

WAITING_CHANNELS: Final = """
channel AS (
    -- A loose index scan: one probe a channel. The query that begins with it is RECURSIVE.
    (SELECT account, campaign_id FROM dispatcher.leads WHERE state = 'pending' ORDER BY account, campaign_id LIMIT 1)
    UNION ALL
    SELECT following.account, following.campaign_id
    FROM channel CROSS JOIN LATERAL (
        SELECT lead.account, lead.campaign_id FROM dispatcher.leads AS lead
        WHERE lead.state = 'pending' AND (lead.account, lead.campaign_id) > (channel.account, channel.campaign_id)
        ORDER BY lead.account, lead.campaign_id LIMIT 1
    ) AS following
)
"""
