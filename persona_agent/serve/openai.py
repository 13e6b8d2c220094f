"""OpenAI's other routes: models and embeddings."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from persona_agent.memory.tokens import estimate_tokens
from persona_agent.serve.errors import bad
from persona_agent.serve.request import CallerDep, headers_of, json_of, service_of
from persona_agent.serve.schemas import EMBEDDINGS_BODY, ERRORS
from persona_agent.serve.service import Service

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=ERRORS)

MOST_INPUTS = 2048


@router.get("/models")
async def list_models(request: Request, caller: CallerDep) -> Response:
    """List the models there are: the upstream's, and the memory's own embedder."""
    service = service_of(request)
    data = await service.upstream.models()
    own = {
        "id": service.memory.embedder.name,
        "object": "model",
        "created": 0,
        "owned_by": "persona-agent",
    }
    return _json({"object": "list", "data": [*data, own]})


@router.post("/embeddings", openapi_extra=EMBEDDINGS_BODY)
async def embeddings(request: Request, caller: CallerDep) -> Response:
    """Embed texts: with the memory's own embedder if it is named, else upstream."""
    service = service_of(request)
    body = await json_of(request)
    if not isinstance(body, dict):
        raise bad("the body must be a JSON object")
    if body.get("model") == service.memory.embedder.name:
        return _json(await _embed(service, body))
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise bad("model must be the name of a model", param="model")
    body.pop("cache_salt", None)
    answer = await service.upstream.post("/embeddings", body, headers_of(request))
    return Response(await answer.read(), answer.status, dict(answer.headers))


async def _embed(service: Service, body: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(one, str) and one for one in texts):
        raise bad("input must be a text or a list of texts, none empty", param="input")
    if not 1 <= len(texts) <= MOST_INPUTS:
        raise bad(f"there are {len(texts)} inputs; give 1 to {MOST_INPUTS}", param="input")
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise bad("encoding_format must be float or base64", param="encoding_format")
    rows = await service.call(service.memory.embedder.embed, texts)
    coded = body.get("encoding_format") == "base64"
    tokens = sum(map(estimate_tokens, texts))
    return {
        "object": "list",
        "model": body["model"],
        "data": [
            {
                "object": "embedding",
                "index": place,
                "embedding": b64encode(row.astype("<f4").tobytes()).decode()
                if coded
                else row.tolist(),
            }
            for place, row in enumerate(rows)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _json(value: object) -> Response:
    return Response(json.dumps(value), media_type="application/json")
