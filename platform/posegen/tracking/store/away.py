"""Whether a store is away for a while, or has refused something for good; and leaving one that is away alone."""

from __future__ import annotations

import time
from collections.abc import Iterator

_AWAY_TEXTS = ("connectionpool(", "max retries exceeded", "timed out", "connection refused", "could not connect")
# A database says that it lets nobody in by the same class as that it is down.
_DENIED_TEXTS = ("authentication failed", "access denied", "no password supplied", "does not exist")
# Classes of libraries that need not be installed, by the first part of their module and their name.
_AWAY_CLASSES = {
    ("sqlalchemy", "OperationalError"), ("sqlalchemy", "InterfaceError"), ("sqlalchemy", "TimeoutError"),
    ("botocore", "EndpointConnectionError"), ("botocore", "ConnectTimeoutError"), ("botocore", "ReadTimeoutError"),
    ("botocore", "ConnectionClosedError"), ("botocore", "ProxyConnectionError"),
}  # fmt: skip
_LATER_CODES = ("TEMPORARILY_UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def is_away(error: BaseException) -> bool:
    """Whether nobody answered: a server that is down, a database or a bucket that cannot be reached."""
    if _denied(error):
        return False
    for each in _chain(error):
        if isinstance(each, ConnectionError | TimeoutError):
            return True
        if any((base.__module__.partition(".")[0], base.__name__) in _AWAY_CLASSES for base in type(each).__mro__):
            return True
        text = str(each).lower()
        if any(part in text for part in _AWAY_TEXTS):
            return True
    return False


def _denied(error: BaseException) -> bool:
    """Whether a database answered that it lets nobody in by this name and password."""
    return any(
        type(each).__name__ == "OperationalError" and any(part in str(each).lower() for part in _DENIED_TEXTS)
        for each in _chain(error)
    )


def may_pass(error: BaseException) -> bool:
    """Whether the same may be taken later: nobody answered, the server failed, or a password was changed."""
    if is_away(error) or _denied(error):
        return True
    for each in _chain(error):
        code = str(getattr(each, "error_code", ""))
        status = getattr(each, "get_http_status_code", lambda: 0)() if code else 0
        # A client's own complaints are INTERNAL_ERROR too; only a server's answer carries that as JSON.
        if code in _LATER_CODES or (status in (502, 503, 504)):
            return True
    return False


class Breaker:
    """Leaves a store alone for a while after it did not answer: hundreds of calls would each wait for it anew.

    The while doubles with each time in a row.
    """

    def __init__(self, rest_s: float = 20.0, slow_s: float = 1.0, most_s: float = 160.0) -> None:
        self.rest_s, self.slow_s, self.most_s = rest_s, slow_s, most_s
        self.until = -1.0
        self._next_s = rest_s

    @property
    def open(self) -> bool:
        return time.monotonic() < self.until

    def failed(self, began: float, error: BaseException) -> None:
        """Told of a call that failed, and of when it began (time.monotonic)."""
        if is_away(error) or time.monotonic() - began > self.slow_s:
            self.until = time.monotonic() + self._next_s
            self._next_s = min(2 * self._next_s, self.most_s)

    def close(self) -> None:
        """It has answered, or is to be asked all the same."""
        self.until, self._next_s = -1.0, self.rest_s
