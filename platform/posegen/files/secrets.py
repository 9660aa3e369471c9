"""Passwords and keys in what is written or shown: one function masks them, whatever they come in.

A run needs them to work, and nothing that it leaves behind does: the configuration that is kept, parameters of MLflow,
reports, logs and errors hold `***` in their place. Whoever goes on with a run gives them again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"
_SECRET = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|AUTHORIZATION|(^|_|-)(API)?KEY($|_|-)", re.IGNORECASE)
# As SQLAlchemy reads it: the password goes up to the @, and may hold slashes and colons.
_USERINFO = re.compile(r"([a-zA-Z][\w+.\-]*://[^\s:/@'\"]*:)[^\s'\"]+@")
_QUERY = re.compile(r"([?&;][\w.\-]*(?:passw|pwd|secret|token|credential|key)[\w.\-]*=)[^&;\s'\"#]+", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a variable or key is called like one that holds a secret, as AWS_SECRET_ACCESS_KEY or HF_TOKEN."""
    return _SECRET.search(name) is not None


def has_password(value: str) -> bool:
    """Whether a text is a URL with a password in it: scheme://user:password@host, or ?password=..."""
    return masked_text(value) != value


def masked_text(text: str) -> str:
    """A text without the passwords of the URLs in it."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\g<1>{MASK}", _USERINFO.sub(rf"\g<1>{MASK}@", text))


def masked(value: Any, key: str = "") -> Any:
    """A configuration, or a part of it, with a mask in the place of every secret. What it is given stays as it was.

    Args:
        key: what the value is called; texts under names such as `password` are secret as a whole.
    """
    if isinstance(value, Mapping):
        return {name: masked(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, key) for item in value]
    if isinstance(value, str):
        return MASK if value and is_secret_name(key) else masked_text(value)
    return value


def masked_words(words: Sequence[str]) -> list[str]:
    """The same for overrides `key=value`."""
    out = []
    for word in words:
        key, equals, value = word.partition("=")
        out.append(f"{key}{equals}{masked(value, key.rpartition('.')[2])}" if equals else masked_text(word))
    return out


class MaskingFormatter(logging.Formatter):
    """A log line, its traceback included, without the passwords of URLs."""

    def format(self, record: logging.LogRecord) -> str:
        return masked_text(super().format(record))
