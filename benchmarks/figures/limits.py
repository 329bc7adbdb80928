"""The rate limit kept and used up, and shared fairly by campaigns: one run of five minutes serves both figures."""

import time
from collections import Counter
from typing import Final

from benchmarks import contenders
from benchmarks.bench import ROOT, Bench, environment, wait_for_line
from benchmarks.figure import Check, Figure
from dispatcher.embedded.child import Child, Command
from dispatcher.sandbox.log import read_log

_MINUTES: Final = 5
_LIMIT: Final = "100/minute; 20/10 seconds"
_PER_MINUTE: Final = 100  # the tighter of the two windows over a minute
_CAMPAIGNS: Final = 5
_LEADS_EACH: Final = 200
_LATENCY_SECONDS: Final = "0.05"


def limited(bench: Bench, _rounds: int) -> Figure:
    """Four processes, five campaigns with more leads than may go out, against the sandbox's sliding log."""
    figure = Figure("limit", f"Rate limit {_LIMIT}, 4 processes, {_CAMPAIGNS} campaigns, {_MINUTES} minutes")
    log = bench.store / "sandbox.jsonl"
    log.unlink(missing_ok=True)
    out = bench.store / "sandbox.log"
    out.unlink(missing_ok=True)
    sandbox = Child(
        Command(
            (
                *(contenders.OURS, "-m", "dispatcher.sandbox", "--log", str(log)),
                *("--rate-limit", _LIMIT, "--latency", _LATENCY_SECONDS),
            ),
            out,
            environment=environment(),
            directory=ROOT,
        )
    )
    ours = contenders.ours(processes=4)
    try:
        extra = {"VOICERY_BASE_URL": wait_for_line(out), "DISPATCHER_RATE_LIMIT": _LIMIT}
        with bench.database(schema=True) as url, bench.running(ours, url, extra) as running:
            running.call("-m", "benchmarks.ours", "campaigns", str(_CAMPAIGNS), str(_LEADS_EACH))
            while not any(one.method == "POST" for one in read_log(log)):
                time.sleep(0.1)
            time.sleep(_MINUTES * 60)
    finally:
        sandbox.stop()
    posts = [one for one in read_log(log) if one.method == "POST"]
    begin = posts[0].at
    posts = [one for one in posts if one.at < begin + _MINUTES * 60]
    created = Counter(one.body["campaign_id"] for one in posts if one.created_id is not None)
    refused = sum(one.status == 429 for one in posts)
    share = sum(created.values()) / (_PER_MINUTE * _MINUTES) * 100
    figure.sample("created", "leads created", "").add(float(sum(created.values())))
    figure.sample("refused", "answers of 429", "").add(float(refused))
    for campaign, count in sorted(created.items()):
        figure.sample(f"campaign_{campaign}", f"campaign {campaign}", "leads").add(float(count))
    spread = (max(created.values()) - min(created.values())) / max(created.values()) * 100
    figure.checks.append(Check("answers of 429", float(refused), "≤", 0, ""))
    figure.checks.append(Check("allowance used", share, "≥", 95, "%"))
    figure.checks.append(Check(f"difference between {len(created)} of {_CAMPAIGNS} campaigns", spread, "≤", 20, "%"))
    return figure
