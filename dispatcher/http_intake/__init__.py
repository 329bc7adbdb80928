"""The HTTP intake: `dispatcher intake`, its keys, and how the webhooks of other programs become leads.

Needs the extra `intake`, except `keys` and `mappings`, which operators use without a server.
"""
