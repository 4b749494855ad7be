from __future__ import annotations

import base64

import pytest

from pullthrough.upstream.http.proxies import Proxies, parse_proxy
from pullthrough.upstream.http.urls import parse_url

PROXY = "http://proxy.corp:3128"


def proxied(environ: dict[str, str], url: str, setting: str = "") -> str | None:
    proxy = Proxies(setting, environ).of(parse_url(url))
    return proxy.url.host_port if proxy else None


def test_each_scheme_has_its_variable_and_lower_case_wins() -> None:
    environ = {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:2", "HTTP_PROXY": "http://plain:3"}
    assert proxied(environ, "https://quay.io/") == "lower:2"
    assert proxied(environ, "http://quay.io/") == "plain:3"
    assert proxied({}, "https://quay.io/") is None


@pytest.mark.parametrize(
    ("no_proxy", "url", "bypassed"),
    [
        ("*", "https://quay.io/", True),
        ("quay.io", "https://quay.io/", True),
        ("quay.io", "https://cdn01.quay.io/", True),
        ("quay.io", "https://notquay.io/", False),
        (".quay.io", "https://cdn01.quay.io/", True),
        ("*.quay.io", "https://cdn01.quay.io/", True),
        ("a.com, quay.io ,b.com", "https://quay.io/", True),
        ("quay.io:8443", "https://quay.io/", False),
        ("quay.io:8443", "https://quay.io:8443/", True),
        ("10.0.0.0/8", "http://10.1.2.3:5000/", True),
        ("10.0.0.0/8", "http://11.1.2.3:5000/", False),
        ("fd00::/8", "http://[fd00::1]:5000/", True),
        ("10.1.2.3", "http://10.1.2.3:5000/", True),
        ("QUAY.IO", "https://quay.io/", True),
        ("", "http://127.0.0.1:5000/", True),
        ("", "http://localhost:5000/", True),
        ("", "https://quay.io/", False),
    ],
)
def test_no_proxy_is_read_as_go_programs_read_it(no_proxy: str, url: str, bypassed: bool) -> None:
    environ = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "NO_PROXY": no_proxy}
    assert (proxied(environ, url) is None) is bypassed


def test_the_setting_wins_over_the_environment_and_no_proxy() -> None:
    environ = {"HTTPS_PROXY": "http://other:1", "NO_PROXY": "*"}
    assert proxied(environ, "https://quay.io/", setting=PROXY) == "proxy.corp:3128"
    assert proxied(environ, "http://127.0.0.1:5000/", setting=PROXY) == "proxy.corp:3128"


def test_a_cgi_requests_proxy_header_is_no_proxy() -> None:
    assert proxied({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "http://quay.io/") is None


def test_a_proxys_password_is_sent_to_it_and_shown_nowhere() -> None:
    proxy = parse_proxy("http://user:p%40ss@proxy:3128")
    assert proxy.authorization == "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert "p@ss" not in repr(proxy)
    assert proxy.authorization not in repr(proxy)


@pytest.mark.parametrize(
    "text", ["https://user:s3cret@proxy:443", "http://s3cret@", "socks5://s3cret:1", "http://s3cret:x"]
)
def test_an_unusable_proxy_is_an_error_that_does_not_repeat_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_proxy(text)
    assert "s3cret" not in str(caught.value)


def test_a_proxy_without_a_scheme_is_http() -> None:
    assert parse_proxy("proxy.corp:3128").url.text == "http://proxy.corp:3128/"
