"""The conversation as a tool of the agent: the model passes on what the person says."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from persona_agent.chat.session import ChatSession
from persona_agent.tools import FunctionTool
from persona_agent.types import Scope

MOST_SESSIONS = 1000


class ChatTool:
    """Keeps each person's conversation, and gives the agent a tool to lead it.

    `all` is what `PersonaAgent.ask` is given. Bounded: of conversations, those used least lately
    go; what was learned in them is in memory already.
    """

    def __init__(
        self, open_session: Callable[[Scope], ChatSession], *, sessions: int = MOST_SESSIONS
    ) -> None:
        """Open conversations by a function, such as `lambda scope: agent.chat(domain, ...)`."""
        if sessions < 1:
            raise ValueError(f"sessions is {sessions}; it must be at least 1")
        self._open = open_session
        self._most = sessions
        self._sessions: OrderedDict[Scope, ChatSession] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def all(self) -> list[FunctionTool]:
        """The tool."""
        return [FunctionTool(self.find_by_talking)]

    def find_by_talking(self, scope: Scope, said: str = "") -> str:
        """Finds something for this person by asking about their taste. Give what they said, in
        their words, and pass on what it replies: a question, or a recommendation with reasons.
        """
        session, is_new = self._session(scope)
        return str(session.start() if is_new and not said else session.say(said))

    def forget(self, scope: Scope) -> None:
        """Forget a person's conversations, of all agents and runs."""
        with self._lock:
            for one in [key for key in self._sessions if key.owner == scope.owner]:
                del self._sessions[one]

    def _session(self, scope: Scope) -> tuple[ChatSession, bool]:
        with self._lock:
            known = self._sessions.get(scope)
            if known is not None:
                self._sessions.move_to_end(scope)
                return known, False
            made = self._sessions[scope] = self._open(scope)
            while len(self._sessions) > self._most:
                self._sessions.popitem(last=False)
            return made, True
