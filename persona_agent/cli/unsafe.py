"""What is unsafe about an endpoint or a server's settings, though it works: for the doctor to tell."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from persona_agent.serve.config import Config, is_loopback

SECRET_NAMES = frozenset({"api_key", "apikey", "key", "token", "access_token", "password"})


def unsafe_address(url: str, *, has_key: bool) -> list[str]:
    """Return what is unsafe about reaching a model, or keys, at `url`; `has_key` says if a key is sent.

    >>> unsafe_address("http://127.0.0.1:8000/v1", has_key=False)
    []
    >>> len(unsafe_address("http://me:secret@models.example/v1", has_key=True))
    2
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    where = f"{parts.scheme}://{host}"  # never the whole of it, which may hold a secret
    found = []
    if parts.password or any(name.lower() in SECRET_NAMES for name, _ in parse_qsl(parts.query)):
        found.append(
            f"the address of {where} holds a secret, which logs and process lists show; give it as "
            "PERSONA_AGENT_LLM_API_KEY"
        )
    if is_loopback(host):
        return found
    if parts.scheme == "http":
        found.append(
            f"what users say travels to {where} unencrypted, and so does a key; use https, unless "
            "that network is yours alone"
        )
    if not has_key:
        found.append(
            f"{where} is asked without a key, so that whoever reaches it can use it; give it one "
            "(vLLM's --api-key guards /v1 only: keep the rest, runtime LoRA above all, off the network)"
        )
    return found


def unsafe_cache(endpoint: str, *, honours_salt: bool) -> list[str]:
    """Return what is unsafe about an endpoint's prefix cache.

    An engine that reuses prefixes tells by its speed what others have sent (CVE-2025-46570).
    """
    if honours_salt:
        return []
    told = (
        f"{endpoint} takes no cache_salt: if it keeps a prefix cache, all users share it, and can "
        "learn by timing what others have sent; use vLLM, or an endpoint that keeps users apart"
    )
    return [told]


def unsafe_server(config: Config) -> list[str]:
    """Return what is unsafe about a server's configuration."""
    found = []
    if config.auth == "off":
        found.append("auth is off: every process of this machine can read every user's memory")
    if not is_loopback(config.host):
        found.append(
            f"the server listens on {config.host} without encryption; put a proxy with TLS before it"
        )
    if config.log_user_text:
        found.append(
            "log_user_text is on: what users say is written to the log, which forget leaves"
        )
    if config.cache_policy == "off":
        found.append("cache_policy is off: all tenants share the engine's prefix cache")
    if config.jwt.jwks_url.startswith("http://") and not is_loopback(
        urlsplit(config.jwt.jwks_url).hostname or ""
    ):
        found.append("jwt.jwks_url is not https: whoever is between can make keys of their own")
    if config.base_url:
        has_key = bool(config.api_key.get_secret_value())
        found += unsafe_address(config.base_url, has_key=has_key)
    return found
