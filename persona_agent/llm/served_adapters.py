"""The adapters of a running vLLM server: which are loaded, loading and unloading one.

The server must have been started with VLLM_ALLOW_RUNTIME_LORA_UPDATING and room for adapters, as
`persona-agent serve-model --later` says. It reads an adapter's folder itself, so the folder must
be there under the same path.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from persona_agent.errors import BackendError
from persona_agent.types import Json

TIMEOUT_S = 120.0


class ServedAdapters:
    """A vLLM server's adapters; implements `AdapterHost`."""

    def __init__(self, base_url: str, *, api_key: str | None = None) -> None:
        """Use the server at `base_url`, such as http://127.0.0.1:8000/v1."""
        self.base_url = base_url.rstrip("/")
        self._key = api_key

    def adapters(self) -> frozenset[str]:
        """Return the names of the adapters that are loaded."""
        try:
            listed = json.loads(self._ask("/models"))["data"]
            return frozenset(one["id"] for one in listed if one.get("parent"))
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(f"{self.base_url} lists its models as vLLM does not") from error

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter under a name; raises BackendError if the server does not."""
        body: Json = {"lora_name": name, "lora_path": str(folder.resolve())}
        self._ask("/load_lora_adapter", body)

    def unload_adapter(self, name: str) -> None:
        """Unload an adapter; raises BackendError if the server does not."""
        self._ask("/unload_lora_adapter", {"lora_name": name})

    def _ask(self, path: str, body: Json = None) -> str:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        asked = Request(self.base_url + path, data=data, headers=headers)
        try:
            with urlopen(asked, timeout=TIMEOUT_S) as answer:
                return str(answer.read().decode())
        except HTTPError as error:
            said = error.read().decode(errors="replace")[:300]
            hint = "; was it started by serve-model --later?" if error.code == 404 else ""
            raise BackendError(
                f"{self.base_url}{path} answered {error.code}: {said}{hint}"
            ) from error
        except (URLError, OSError) as error:
            raise BackendError(f"{self.base_url} does not answer: {error}") from error
