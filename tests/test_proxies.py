"""A proxy for the web is never asked for this machine itself."""

from __future__ import annotations

import urllib.request

from posegen.proxies import opener, spare_loopback


def test_loopback_is_added_to_what_the_user_spares():
    environment = {"http_proxy": "http://proxy:3128", "no_proxy": "example.org, 127.0.0.1"}
    spare_loopback(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,127.0.0.1,localhost,::1,[::1]"
    again = dict(environment)
    spare_loopback(again)
    assert again == environment


def test_without_a_proxy_or_with_none_for_all_nothing_changes():
    for environment in ({}, {"no_proxy": "x"}, {"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}):
        before = dict(environment)
        spare_loopback(environment)
        assert environment == before


def test_the_opener_goes_round_the_proxy_for_this_machine_only(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    def proxies(url: str) -> list[str]:
        made = opener(url)
        return [h.proxies["http"] for h in made.handlers if isinstance(h, urllib.request.ProxyHandler) and h.proxies]

    for url in ("http://127.0.0.1:8265", "http://localhost/x", "http://[::1]:5000"):
        assert proxies(url) == []
    assert proxies("http://head:8265") == ["http://127.0.0.1:9"]
