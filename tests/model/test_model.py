"""The model holds over some thousand seeds, and notices every sabotage. `make model` runs many more."""

import pytest

from tests.model.sabotage import NOTICED_BY, SABOTAGES
from tests.model.simulation import Broken, Simulation

SEEDS_AT_ONCE = 250
CHUNKS = 8


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_breaks_a_promise(chunk: int) -> None:
    for seed in range(chunk * SEEDS_AT_ONCE, (chunk + 1) * SEEDS_AT_ONCE):
        try:
            Simulation(seed).run()
        except Broken as error:
            pytest.fail(f"seed {seed}: {error}\nrepeat it with: python -m tests.model --first {seed} --seeds 1")


@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_is_noticed(name: str) -> None:
    first = NOTICED_BY.get(name, 0)
    for seed in (*range(first, 4000), *range(first)):
        try:
            Simulation(seed, SABOTAGES[name]).run()
        except Broken:
            return
    pytest.fail("nobody noticed")


def test_the_model_reaches_what_it_is_about() -> None:
    """Unknown outcomes that were found, proven absent, held; late answers; resends: else it would prove little."""
    ends = set()
    for seed in range(400):
        for lead in Simulation(seed).run().store.leads:
            for attempt in lead.history:
                ends |= {f"look-up {look.verdict}" for look in attempt.look_ups}
                ends |= {"proof"} if attempt.proof else set()
            ends |= {"resent"} if lead.resends else set()
            ends.add(f"{lead.state}:{lead.failure_class}" if lead.failure_class else lead.state.value)
    assert ends >= {
        "look-up match",
        "look-up possible",
        "look-up absent",
        "look-up unavailable",
        "proof",
        "resent",
        "accepted",
        "duplicate",
        "failed:outcome_unknown",
        "failed:rejected",
        "failed:blocked",
    }
