"""Every error this package raises on purpose.

```
E2RankError
├── InputError               a query, candidate, option or vector that cannot be used (also a ValueError)
│   ├── PromptBudgetError    the query and the prompt's own words leave no room for a document
│   └── VectorError          a vector of another width, not finite, or of length zero
├── ProfileError             a profile or template that contradicts itself
├── CheckpointError          files that are missing, incomplete, altered or of another architecture
├── MissingExtraError        an optional dependency is not installed (also an ImportError)
├── StoreError               a vector store that cannot be read or written
│   └── StoreMismatchError   an index whose vectors another model, adapter or cap made
├── ServerError              an embedding server that refuses the request, as it would refuse it again
│   ├── AuthenticationError  it does not accept the key, or wants one
│   └── ServerMismatchError  it answers, but not as this model: other pooling, tokens added or cut, other weights
└── TransientError           a failure of this call, not of its input: on_error="keep_order" absorbs these
    ├── EngineMemoryError    out of memory with one sequence in the batch
    ├── NonFiniteError       the model returned NaN or infinity
    ├── EngineTimeoutError   no whole answer within the call's deadline
    ├── ProtocolError        an answer that is not what the route must give
    └── UnavailableError     an embedding server that is not there, breaks off, or is overloaded
```

A message says where (a position or an id), what was expected, what was found, and the next step. It never
holds the text of a query or a document, nor a key.
"""

from __future__ import annotations


class E2RankError(Exception):
    """Base of every error of this package."""


class InputError(E2RankError, ValueError):
    """A query, a candidate, an option or a vector cannot be used as it is."""


class PromptBudgetError(InputError):
    """The query and the scaffold of the prompt leave no room for a document; both are never cut."""


class VectorError(InputError):
    """A vector has another width than the model's, is not finite, or has length zero."""


class ProfileError(E2RankError):
    """A profile or a template contradicts itself, or does not fit its tokenizer."""


class CheckpointError(E2RankError):
    """The files of a checkpoint are missing, incomplete, altered, or of another architecture."""


class MissingExtraError(E2RankError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str | None = None) -> None:
        wanted = package if extra is None else f"'e2rank-integrations[{extra}]'"
        super().__init__(f"{package} is not installed; run: pip install {wanted}", name=package)
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str | None, str | None]]:
        return type(self), (self.name, self.extra)


class StoreError(E2RankError):
    """A vector store cannot be read or written as asked."""


class StoreMismatchError(StoreError):
    """The vectors of an index were made by another model, adapter, pooling, format or cap."""


class ServerError(E2RankError):
    """An embedding server refuses the request, and would refuse it again."""


class AuthenticationError(ServerError):
    """An embedding server does not accept the key, or wants one."""


class ServerMismatchError(ServerError):
    """An embedding server answers, but not as the model that it should run."""


class TransientError(E2RankError):
    """A failure of this call rather than of its input; `on_error="keep_order"` absorbs it."""


class EngineMemoryError(TransientError):
    """The device ran out of memory with a single sequence in the batch."""


class NonFiniteError(TransientError):
    """The model returned a vector that holds NaN or infinity."""


class EngineTimeoutError(TransientError):
    """A call of a remote engine had no whole answer within its deadline."""


class ProtocolError(TransientError):
    """An embedding server's answer is not what its route must give, so none of it is used."""


class UnavailableError(TransientError):
    """An embedding server is not there, breaks off, or says that it is overloaded."""
