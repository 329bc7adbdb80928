"""Requests that schemathesis makes up of the description, valid and not, are answered as it says."""

from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from dispatcher.http_intake.document import document
from tests.http_intake.conftest import Served

SCHEMA: Final = schemathesis.openapi.from_dict(document())
OPERATIONS: Final = {one.ok().label: one.ok() for one in SCHEMA.get_all_operations()}
EXAMPLES: Final = 8
CHECKS: Final = [
    schemathesis.checks.not_a_server_error,
    *schemathesis.checks.CHECKS.get_by_names(
        ["status_code_conformance", "content_type_conformance", "response_headers_conformance",
         "response_schema_conformance"]
    ),
]  # fmt: skip


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", OPERATIONS)
def test_made_up_requests_are_answered_as_described(served: Served, label: str, mode: GenerationMode) -> None:
    operation = OPERATIONS[label]
    secret = served.key().secret

    @settings(
        max_examples=EXAMPLES, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck),
        database=None, derandomize=True,
    )  # fmt: skip
    @given(st.data())
    def answered_as_described(data: Any) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {secret}"}
        response = case.call(base_url=f"http://127.0.0.1:{served.port}")
        case.validate_response(response, checks=CHECKS)

    answered_as_described()
