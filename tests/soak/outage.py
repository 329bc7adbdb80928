"""`python -m tests.soak.outage --seconds 120`: Voicery is away under load; what that cost, exit 1 if too much.

Allowed: leads in doubt up to concurrency + 5 per worker process and channel; no attempt burnt by leads that only
waited; flowing again within 10 s beyond the gate's own wait.
"""

import argparse
import sys
import time

from dispatcher.sandbox.fault import FaultName, Rule, When
from tests.soak.stack import Stack, numbers

PROCESSES = 2
CONCURRENCY = 8
CAMPAIGN = 42
CELERY = (sys.executable, "-m", "celery", "-A", "dispatcher", "worker", "--loglevel", "INFO", "-c", str(PROCESSES))
GATE_SETTINGS = {
    "DISPATCHER_CONCURRENCY": str(CONCURRENCY),
    "DISPATCHER_GATE_WAIT": "5",
    "DISPATCHER_GATE_WAIT_MAX": "30",
    "DISPATCHER_SETTLE": "5",
    "DISPATCHER_UNKNOWN_FOR": "600",
}
FLOW_WITHIN_SECONDS = 10.0


def main() -> int:
    given = argparse.ArgumentParser(prog="python -m tests.soak.outage")
    given.add_argument("--seconds", type=float, default=120.0)
    given.add_argument("--fault", choices=["hang", "close", "500", "503"], default="hang")
    asked = given.parse_args()
    with Stack(1, latency_seconds=0.05) as stack:
        stack.environment |= GATE_SETTINGS
        phones = numbers(1)
        leads = [{"phone_number": next(phones), "campaign_id": CAMPAIGN, "variables": {}} for _ in range(700)]
        stack.dispatcher.submit_many(leads)
        stack.start_worker((*CELERY, "--hostname", "w@outage"))
        while stack.states()["accepted"] < 50:
            time.sleep(0.1)
        rules = [
            Rule(fault=FaultName(asked.fault), method=method, when=When.BEFORE, times=None)
            for method in ("POST", "GET")
        ]
        stack.sandbox.faults.add(*rules)
        time.sleep(asked.seconds)
        before = stack.states()
        wait = float(
            stack.query("SELECT coalesce(max(extract(epoch FROM until - now())), 0) FROM dispatcher.gates")[0][0]
        )
        stack.sandbox.faults.clear()
        returned = time.monotonic()
        while stack.states()["accepted"] <= before["accepted"] and time.monotonic() - returned < 120:
            time.sleep(0.1)
        flowing = time.monotonic() - returned
        until = time.monotonic() + 180
        while any(stack.states()[one] for one in ("pending", "sending", "unknown")) and time.monotonic() < until:
            more = {"phone_number": next(phones), "campaign_id": CAMPAIGN, "variables": {}, "allow_dupplicate": True}
            stack.dispatcher.submit(more)
            time.sleep(1)
        in_doubt = stack.query("SELECT count(*) FROM dispatcher.lead_attempts WHERE evidence ? 'lookups'")[0][0]
        burnt = stack.query(
            "SELECT count(*) FROM dispatcher.lead_attempts AS attempt WHERE outcome IN ('not_sent', 'bug')"
        )[0][0]
        counted = stack.query("SELECT max(attempts) FROM dispatcher.leads WHERE resends = 0")[0][0]
        allowed = PROCESSES * (CONCURRENCY + 5)
        print(f"{asked.fault} for {asked.seconds:g} s: {before} when it ended")
        print(
            f"in doubt: {in_doubt} (allowed {allowed}); attempts burnt by waiting leads: {counted - 1}"
            f" ({burnt} not sent)"
        )
        print(f"flowing again after {flowing:.1f} s; the gate's own wait had {wait:.1f} s left")
        ends = dict(stack.states())
        print(f"ends: {ends}")
        good = in_doubt <= allowed and counted <= 1 and flowing <= max(wait, 0) + FLOW_WITHIN_SECONDS
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
