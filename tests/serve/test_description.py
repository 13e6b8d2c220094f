"""The OpenAPI description is what the server does: schemathesis asks every route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks

from tests.serve.conftest import ADMIN, Running

EXAMPLES = 5  # a route
CHECKS: list[Any] = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def test_every_route_answers_as_described(serve: Callable[..., Running]) -> None:
    server = serve(memory={"deadline_s": 60})
    headers = {"x-api-key": ADMIN}
    with server.client() as web:
        add = {"user_id": "ann", "memories": [{"query": "I drink tea", "id": "m1"}]}
        assert web.post("/v1/memories", json=add).status_code == 200
        description = web.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(description)
    asked: dict[str, int] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.startswith("/v1/recommendations"):
            continue  # without a recommender they answer 501, as described

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            case.call_and_validate(base_url=server.url, headers=headers, checks=CHECKS, timeout=60)
            asked[case.operation.label] = asked.get(case.operation.label, 0) + 1

        ask()
    assert len(asked) >= 30
    assert set(asked.values()) <= set(range(1, EXAMPLES + 1))
