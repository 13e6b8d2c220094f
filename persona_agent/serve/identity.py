"""Who asks, and about whom: pure rules over a key, a verified token, headers and a body.

A verified claim names the user; else the user that a key is bound to; else, for a key that may
act for many users, a header, then the body. What is left over is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from persona_agent.memory.api_keys import KeyScope
from persona_agent.serve.errors import ApiError, bad, nobody
from persona_agent.types import Scope

USER_HEADERS = (
    "x-persona-user",
    "x-litellm-end-user-id",
    "x-litellm-customer-id",
    "x-openwebui-user-id",
)
AGENT_HEADER = "x-persona-agent"
RUN_HEADER = "x-persona-run"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was let in: a tenant's key or token, the one user it speaks for, and what it may do.

    `name` is what the log calls it: a key's id, or "token".
    """

    tenant: str
    user: str | None
    scopes: frozenset[KeyScope]
    name: str

    @property
    def is_operator(self) -> bool:
        """Whether operator routes are open to it."""
        return "operator" in self.scopes


def chat_scope(caller: Caller, headers: Mapping[str, str], body: Mapping[str, object]) -> Scope:
    """Return for whom a chat request is, by the rules above.

    Headers and body are those that clients send anyway, so a bound caller's are not looked at.
    Raises ApiError 400 if nobody is named, or the key may not act for whom it names.
    """
    user = caller.user
    if user is None:
        named = _header_user(headers) or _body_user(body)
        if "many-users" not in caller.scopes:
            raise bad(
                "this key is not bound to a user and may not act for many: use a key with the "
                "scope many-users, a key of the user, or a signed token",
                code="user_required",
            )
        if named is None:
            raise bad(
                "the request names no user: send the header X-Persona-User, or `user` in the body",
                param="user",
                code="user_required",
            )
        user = named
    return scope_of(caller, user, headers)


def user_scope(caller: Caller, user: str | None, headers: Mapping[str, str]) -> Scope:
    """Return the scope of a route about a user, who is named by path, query or body.

    Without a name it is the caller's own user, or the header's. Raises ApiError: 404 for somebody
    else's user, 400 where nobody is named.
    """
    if caller.user is not None:
        if user is not None and user != caller.user:
            raise nobody(user)
        return scope_of(caller, caller.user, headers)
    named = user or _header_user(headers)
    if "many-users" not in caller.scopes:
        if named is not None:
            raise nobody(named)
        raise bad("this key speaks for no user; use a key of the user", code="user_required")
    if named is None:
        raise bad("the request names no user: give user_id", param="user_id", code="user_required")
    return scope_of(caller, named, headers)


def scope_of(caller: Caller, user: str, headers: Mapping[str, str]) -> Scope:
    """Return the scope of a user, with the agent and run that headers name."""
    try:
        return Scope(
            user, caller.tenant, headers.get(AGENT_HEADER) or None, headers.get(RUN_HEADER) or None
        )
    except ValueError as error:
        raise bad(str(error), param="user") from error


def needs_operator(caller: Caller) -> None:
    """Raise ApiError 404, as for a route that is not there, unless the caller is an operator."""
    if not caller.is_operator:
        raise ApiError(
            404,
            "there is no such route for this key; operators' keys have the scope operator",
            kind="not_found_error",
            code="not_found",
        )


def _header_user(headers: Mapping[str, str]) -> str | None:
    return next((headers[name] for name in USER_HEADERS if headers.get(name)), None)


def _body_user(body: Mapping[str, object]) -> str | None:
    metadata = body.get("metadata")
    told = [body.get("user"), body.get("safety_identifier")]
    if isinstance(metadata, Mapping):
        told.append(metadata.get("user_id"))
    for one in told:
        if one is not None and not isinstance(one, str):
            raise bad(f"user is {one!r}; it must be text", param="user")
    return next((one for one in told if isinstance(one, str) and one), None)
