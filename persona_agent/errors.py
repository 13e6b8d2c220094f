"""The errors persona_agent raises. A wrong argument is a plain ValueError or TypeError.

PersonaAgentError
├── BackendError            a model, embedder or tool could not do its work
│   ├── RateLimited         the endpoint asked us to slow down
│   ├── BackendTimeout      no answer within the deadline
│   └── ContextTooLong      the prompt does not fit the model's context
├── ReplyFormatError        the model answered something that cannot be used
├── StoreError              the database could not be opened, read or written
│   ├── UnknownUser         nothing is stored about this user
│   ├── UnknownInteraction  this user has no interaction of this id
│   ├── PersonaConflict     somebody else stored a persona version first
│   └── IdempotencyConflict this idempotency key was used for another write
├── InputError              a line, file or record that cannot be read as data
├── NotEnoughData           too few interactions for what was asked
├── NotFitted               a recommender was used before it was fitted
├── Diverged                training left the finite numbers
└── BudgetExceeded          the work would cost more than it may
"""


class PersonaAgentError(Exception):
    """The root of every error this package raises on purpose."""


class BackendError(PersonaAgentError):
    """A model, embedder or tool could not do its work."""


class RateLimited(BackendError):
    """The endpoint asked us to slow down."""


class BackendTimeout(BackendError):
    """No answer came within the deadline."""


class ContextTooLong(BackendError):
    """The prompt does not fit the model's context."""


class ReplyFormatError(PersonaAgentError):
    """The model answered something that cannot be used."""


class StoreError(PersonaAgentError):
    """The database could not be opened, read or written."""


class UnknownUser(StoreError):
    """Nothing is stored about this user."""


class UnknownInteraction(StoreError):
    """No interaction of this id is stored for this user."""


class PersonaConflict(StoreError):
    """Somebody else stored a persona version first."""


class IdempotencyConflict(StoreError):
    """This idempotency key was used for another write."""


class InputError(PersonaAgentError):
    """A line, file or record cannot be read as data."""


class NotEnoughData(PersonaAgentError):
    """There are too few interactions for what was asked."""


class NotFitted(PersonaAgentError):
    """A recommender was used before it was fitted."""


class Diverged(PersonaAgentError, ValueError):
    """A loss or a score is NaN or infinite: these settings do not train."""


class BudgetExceeded(PersonaAgentError):
    """The work would cost more than it may."""
