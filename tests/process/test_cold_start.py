"""What a producer loads until its first lead is stored: a web server pays for each package in every process."""

import json
import subprocess
import sys
from collections.abc import Mapping

from tests.support.environment import clean_environment

PRODUCER = """
import json, sys
import sqlalchemy, psycopg, redis  # the drivers, with whatever they load by themselves
from sqlalchemy.dialects.postgresql import psycopg as dialect
before = set(sys.modules)
import dispatcher
imported = set(sys.modules) - before
dispatcher.submit(dispatcher.Lead(phone_number="+14155550100", campaign_id=42, variables={"customer_name": "Ada"}))
loaded = set(sys.modules) - before
print(json.dumps({"packages": sorted({name.partition(".")[0] for name in loaded} - sys.stdlib_module_names),
                  "ours": sorted(name for name in loaded if name.startswith("dispatcher."))}))
"""

PACKAGES = {
    "annotated_types",  # pydantic's
    "dispatcher",
    "orjson",
    "phonenumbers",
    "pydantic",
    "pydantic_core",  # pydantic's
    "typing_inspection",  # pydantic's
    "uuid_utils",
}
OURS = {"api", "broker", "config", "decisions", "errors", "failpoint", "intake", "lead", "logs", "operator", "store"}


def test_a_producer_loads_only_what_a_submit_needs(environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRODUCER],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stdout)

    assert set(loaded["packages"]) == PACKAGES
    assert {name.split(".")[1] for name in loaded["ours"]} == OURS
