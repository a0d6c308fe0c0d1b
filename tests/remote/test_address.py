"""Where a server is, and what may be told to whom."""

from __future__ import annotations

import pytest

from grange.errors import ConfigError
from grange.remote.address import KEY_VARIABLE, Address, address_of
from grange.remote.stores import RemoteFeatureStore

KEY = "gk_0123456789abcdef"


@pytest.mark.parametrize("url", ["http://features.example.com", "http://10.0.0.5:8002", "http://0.0.0.0:8002"])
def test_a_key_does_not_travel_in_the_open(url: str) -> None:
    with pytest.raises(ConfigError, match="plain HTTP") as refused:
        Address(url, KEY)

    assert KEY not in str(refused.value)
    assert Address(url, KEY, insecure=True).headers() == {"Authorization": f"Bearer {KEY}"}
    assert Address(url).headers() == {}


@pytest.mark.parametrize("url", ["http://127.0.0.1:8002", "http://localhost", "http://[::1]:8002", "https://a.example"])
def test_a_key_goes_to_this_machine_and_over_https(url: str) -> None:
    assert Address(url, KEY).headers()["Authorization"] == f"Bearer {KEY}"


def test_a_key_does_not_go_to_whoever_answers() -> None:
    with pytest.raises(ConfigError, match="any certificate"):
        Address("https://a.example", KEY, verify=False)


@pytest.mark.parametrize("key", ["", "two words", "line\nend", "naïve", "\x7f"])
def test_what_cannot_be_a_key_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match="no key") as refused:
        Address("https://a.example", key)

    assert not key or repr(key)[1:-1] not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://user:sesame@a.example", "https://sesame@a.example", "https://a.example:sesame", "ftp://a.example"]
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Address(url)

    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("url", ["https://", "a.example", "https://a.example?x=1", "https://a.example/#part"])
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Address(url)


@pytest.mark.parametrize("options", [{"timeout": 0.0}, {"timeout": float("inf")}, {"retries": -1}])
def test_limits_that_are_none_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Address("https://a.example", **options)  # type: ignore[arg-type]


def test_the_key_is_that_of_the_environment_unless_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)

    assert address_of("https://a.example").key == KEY
    assert address_of("https://a.example", key="another").key == "another"


def test_no_text_of_a_store_has_the_key() -> None:
    store = RemoteFeatureStore("https://a.example", key=KEY)

    assert KEY not in f"{store!r} {store.address!r} {store._driver!r} {store._session!r}"


def test_a_file_without_certificates_is_an_error_that_names_it(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        Address("https://a.example", verify=f"{tmp_path}/missing.pem").trust()
