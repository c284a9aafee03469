"""An endpoint's address: plain, complete, and never a place for a secret."""

from __future__ import annotations

import pytest

from moe_cli.config import EndpointConfig, load_config
from moe_cli.errors import ExitCode, UsageError


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000/secret", "begins with http:// or https:// and names a host"),
        ("ftp://secret", "begins with http:// or https:// and names a host"),
        ("http://", "begins with http:// or https:// and names a host"),
        ("http://me:secret@a/v1", "holds no name, password or query"),
        ("http://a/v1?key=secret", "holds no name, password or query"),
        ("http://me:secret@127.0.0.1:9/v\xe4", "not printable ASCII"),
        ("http://me:secret@local host:1/v1", "holds white space"),
        ("http://me:secret@localhost:1/v1\n", "holds white space"),
        ("http://me:secret@local\thost:1/v1", "holds white space"),
    ],
)
def test_what_is_no_plain_address_is_refused_and_no_secret_in_it_is_told(url, message):
    for words in ({"flags": {"endpoint.base_url": url}}, {"assignments": [f'endpoint.base_url="{url}"']}):
        with pytest.raises(UsageError, match=message) as refused:
            load_config(**{"file": None, "environment": {}, "assignments": (), "flags": {}} | words)
        assert refused.value.exit_code == ExitCode.USAGE
        assert "secret" not in str(refused.value) + refused.value.hint


def test_an_address_is_kept_without_its_last_slash():
    assert EndpointConfig(base_url="https://a.example:8443/some%20where/v1/").base_url == (
        "https://a.example:8443/some%20where/v1"
    )
