"""Tokens: every way to forge, stretch or misuse one, against an issuer that really answers over HTTP."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.unit.security.parts import DAY, MINUTE, NOW, SECOND

from grange.errors import ConfigError, ForbiddenError, StoreUnavailableError, UnauthenticatedError
from grange.security import tokens as tokens_module
from grange.security.tokens import Claims, IssuerKeys, TokenVerifier

AUDIENCE = "grange"
RSA_KEY, OTHER_RSA_KEY = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
HOUR = dt.timedelta(hours=1)


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """The public half, as issuers publish it."""
    public = key.public_key()
    kind = {rsa.RSAPublicKey: "RSA", ec.EllipticCurvePublicKey: "EC", ed25519.Ed25519PublicKey: "OKP"}
    name = next(name for type_, name in kind.items() if isinstance(public, type_))
    algorithm: Any = {"RSA": jwt.algorithms.RSAAlgorithm, "EC": jwt.algorithms.ECAlgorithm}.get(
        name, jwt.algorithms.OKPAlgorithm
    )
    return {**algorithm.to_jwk(public, as_dict=True), "kid": kid, "use": "sig", **more}


class Issuer:
    """An identity provider on this machine."""

    def __init__(self) -> None:
        self.keys: Any = [jwk(RSA_KEY, "rsa"), jwk(EC_KEY, "ec"), jwk(ED_KEY, "ed")]
        self.configuration: dict[str, Any] = {}
        self.raw: bytes | None = None
        self.status = 200
        self.asked: list[str] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                body = issuer.answer(self.path)
                self.send_response(issuer.status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Location", "/jwks")
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # who does not wait for all of it hangs up
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, path: str) -> bytes:
        if self.raw is not None:
            return self.raw
        if path.endswith("openid-configuration"):
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **self.configuration}).encode()
        return json.dumps({"keys": self.keys}).encode()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def verifier(issuer: Issuer) -> TokenVerifier:
    return TokenVerifier.from_settings(
        issuer=issuer.url, audience=AUDIENCE, project="shop", jwks=f"{issuer.url}/jwks", roles={"ml-team": "editor"}
    )


def claims(issuer: Issuer, **more: Any) -> dict[str, Any]:
    made = {
        "iss": issuer.url,
        "aud": AUDIENCE,
        "sub": "ana",
        "iat": int(NOW.timestamp()),
        "exp": int((NOW + HOUR).timestamp()),
        "role": "viewer",
        "project": "shop",
        **more,
    }
    return {name: value for name, value in made.items() if value is not None}


def token(
    issuer: Issuer, *, key: Any = RSA_KEY, kid: str | None = "rsa", algorithm: str = "RS256", headers: Any = None,
    **more: Any,
) -> str:  # fmt: skip
    head = {**({} if kid is None else {"kid": kid}), **(headers or {})}
    return jwt.encode(claims(issuer, **more), key, algorithm=algorithm, headers=head)


def encoded(data: Any) -> str:
    return (
        base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()
    )


# -- good ones


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"), [(RSA_KEY, "rsa", "RS256"), (EC_KEY, "ec", "ES256"), (ED_KEY, "ed", "EdDSA")]
)
def test_a_good_token_says_who_asks(
    issuer: Issuer, verifier: TokenVerifier, key: Any, kid: str, algorithm: str
) -> None:
    text = token(
        issuer, key=key, kid=kid, algorithm=algorithm, name="Ana", groups=["risk"], scope="openid grange:serve:churn"
    )
    who = verifier.authenticate(text, now=NOW)
    assert (who.id, who.name, who.kind, who.role, who.project) == ("ana", "Ana", "token", "viewer", "shop")
    assert (who.scopes, who.teams) == ({"serve:churn"}, {"risk"})


def test_of_several_roles_the_highest_counts_and_the_issuer_s_own_words_are_translated(
    issuer: Issuer, verifier: TokenVerifier
) -> None:
    assert verifier.authenticate(token(issuer, role=["viewer", "ml-team", "cook"]), now=NOW).role == "editor"


def test_claims_may_lie_deeper(issuer: Issuer) -> None:
    verifier = TokenVerifier(
        issuer=issuer.url,
        audience=AUDIENCE,
        project="shop",
        keys=IssuerKeys(lambda: issuer.answer("/jwks"), what="it"),
        claims=Claims(role="realm_access.roles", project=""),
    )
    text = token(issuer, role=None, project=None, realm_access={"roles": ["offline", "operator"]})
    assert verifier.authenticate(text, now=NOW).role == "operator"


def test_the_audience_may_be_one_of_several(issuer: Issuer, verifier: TokenVerifier) -> None:
    assert verifier.authenticate(token(issuer, aud=["other", AUDIENCE]), now=NOW).id == "ana"


def test_without_a_key_s_name_there_must_be_no_choice(issuer: Issuer, verifier: TokenVerifier) -> None:
    assert verifier.authenticate(token(issuer, kid=None), now=NOW).id == "ana"
    issuer.keys.append(jwk(OTHER_RSA_KEY, "rsa2"))
    refuses(TokenVerifier.from_settings(issuer=issuer.url, audience=AUDIENCE, project="shop"), token(issuer, kid=None))


# -- forged, stretched, misused


def refuses(verifier: TokenVerifier, text: str, now: dt.datetime = NOW) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        verifier.authenticate(text, now=now)
    assert str(caught.value) == "this is no token that is taken here\n  try:       get a new token from the issuer"


def unsigned(issuer: Issuer, algorithm: str) -> str:
    return f"{encoded({'alg': algorithm, 'kid': 'rsa', 'typ': 'JWT'})}.{encoded(claims(issuer, role='admin'))}."


def signed_with_public_key(issuer: Issuer) -> str:
    """The public key, which everybody has, as the secret of an HMAC."""
    secret = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    body = f"{encoded({'alg': 'HS256', 'kid': 'rsa', 'typ': 'JWT'})}.{encoded(claims(issuer, role='admin'))}"
    return f"{body}.{encoded(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"


def with_other_claims(issuer: Issuer) -> str:
    head, _, signature = token(issuer).split(".")
    return f"{head}.{encoded(claims(issuer, role='admin'))}.{signature}"


FORGERIES: dict[str, Callable[[Issuer], str]] = {
    "alg none": lambda issuer: unsigned(issuer, "none"),
    "alg None": lambda issuer: unsigned(issuer, "None"),
    "alg empty": lambda issuer: unsigned(issuer, ""),
    "HMAC with the public key": signed_with_public_key,
    "claims changed": with_other_claims,
    "signature cut": lambda issuer: token(issuer)[:-4],
    "signature missing": lambda issuer: token(issuer).rpartition(".")[0] + ".",
    "signed by somebody else": lambda issuer: token(issuer, key=OTHER_RSA_KEY),
    "a key of its own in the header": lambda issuer: token(
        issuer, key=OTHER_RSA_KEY, headers={"jwk": jwk(OTHER_RSA_KEY, "rsa"), "jku": "http://127.0.0.1:1/"}
    ),
    "another algorithm of the same key": lambda issuer: token(issuer, algorithm="PS256"),
    "the name of another key": lambda issuer: token(issuer, kid="ec"),
    "the name of no key": lambda issuer: token(issuer, kid="nope"),
    "no expiry": lambda issuer: token(issuer, exp=None),
    "an expiry that is no number": lambda issuer: raw(issuer, {**claims(issuer), "exp": "9999999999"}),
    "an expiry that is true": lambda issuer: raw(issuer, {**claims(issuer), "exp": True}),
    "an expiry beyond all times": lambda issuer: raw(issuer, {**claims(issuer), "exp": 1e300}),
    "an expiry that is not a number": lambda issuer: raw(issuer, {**claims(issuer), "exp": float("nan")}),
    "expired": lambda issuer: token(issuer, exp=int((NOW - MINUTE).timestamp())),
    "not yet": lambda issuer: token(issuer, nbf=int((NOW + MINUTE).timestamp())),
    "issued in the future": lambda issuer: token(issuer, iat=int((NOW + MINUTE).timestamp())),
    "another issuer": lambda issuer: token(issuer, iss="https://evil.example"),
    "no issuer": lambda issuer: token(issuer, iss=None),
    "another audience": lambda issuer: token(issuer, aud="other"),
    "an audience that only begins alike": lambda issuer: token(issuer, aud="grange2"),
    "no audience": lambda issuer: token(issuer, aud=None),
    "no subject": lambda issuer: token(issuer, sub=None),
    "an empty subject": lambda issuer: token(issuer, sub=""),
    "a critical header": lambda issuer: token(issuer, headers={"crit": ["x"], "x": 1}),
    "a token of another kind": lambda issuer: token(issuer, headers={"typ": "logout+jwt"}),
    "claims that are no object": lambda issuer: raw(issuer, ["admin"]),
    "claims that are no JSON": lambda issuer: raw(issuer, b"{"),
    "no token": lambda _: "abc",
    "empty": lambda _: "",
    "dots": lambda _: "..",
    "no text": lambda _: "\ud800.é.",
    "huge": lambda issuer: token(issuer, padding="x" * 20_000),
    "deep": lambda _: f"{encoded(b'[' * 10_000)}.e30.e30",
}


def raw(issuer: Issuer, payload: Any) -> str:
    body = f"{encoded({'alg': 'RS256', 'kid': 'rsa'})}.{encoded(payload)}"
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(body.encode(), RSA_KEY)
    return f"{body}.{encoded(signature)}"


@pytest.mark.parametrize("how", FORGERIES)
def test_a_bad_token_is_refused(issuer: Issuer, verifier: TokenVerifier, how: str) -> None:
    assert verifier.authenticate(token(issuer), now=NOW).id == "ana", "the good one is taken"
    refuses(verifier, FORGERIES[how](issuer))


def test_a_raw_token_is_taken_when_nothing_is_wrong_with_it(issuer: Issuer, verifier: TokenVerifier) -> None:
    assert verifier.authenticate(raw(issuer, claims(issuer)), now=NOW).id == "ana"


def test_clocks_may_differ_a_little_and_no_more(issuer: Issuer, verifier: TokenVerifier) -> None:
    text = token(issuer, nbf=int(NOW.timestamp()), iat=int(NOW.timestamp()))
    verifier.authenticate(text, now=NOW - 30 * SECOND)
    refuses(verifier, text, NOW - 31 * SECOND)
    verifier.authenticate(text, now=NOW + HOUR + 29 * SECOND)
    refuses(verifier, text, NOW + HOUR + 30 * SECOND)


def test_a_remembered_token_ends_when_it_ends(issuer: Issuer, verifier: TokenVerifier) -> None:
    text = token(issuer)
    verifier.authenticate(text, now=NOW + HOUR + 28 * SECOND)
    refuses(verifier, text, NOW + HOUR + 30 * SECOND)


@pytest.mark.parametrize("more", [{"role": None}, {"role": "cook"}, {"role": {"x": 1}}, {"project": "other"},
                                  {"project": None}, {"scope": "grange:reed"}])  # fmt: skip
def test_a_good_token_that_gives_nothing_here_is_forbidden(
    issuer: Issuer, verifier: TokenVerifier, more: dict[str, Any]
) -> None:
    with pytest.raises(ForbiddenError) as caught:
        verifier.authenticate(token(issuer, **more), now=NOW)
    assert token(issuer, **more) not in str(caught.value)


# -- the issuer's keys


def test_keys_are_fetched_once_and_kept(issuer: Issuer, verifier: TokenVerifier) -> None:
    for number in range(5):
        verifier.authenticate(token(issuer, sub=f"u{number}"), now=NOW + number * MINUTE)
    assert issuer.asked == ["/jwks"]


def test_a_key_that_is_new_is_asked_for_and_not_more_often_than_every_half_minute(
    issuer: Issuer, verifier: TokenVerifier
) -> None:
    verifier.authenticate(token(issuer), now=NOW)
    issuer.keys.append(jwk(OTHER_RSA_KEY, "new"))
    text = token(issuer, key=OTHER_RSA_KEY, kid="new")
    refuses(verifier, text, NOW + 29 * SECOND)
    assert verifier.authenticate(text, now=NOW + 30 * SECOND).id == "ana"
    asked = len(issuer.asked)
    for number in range(50):
        refuses(verifier, token(issuer, kid=f"k{number}"), NOW + 31 * SECOND)
    assert len(issuer.asked) == asked


def test_a_key_that_was_taken_back_works_for_an_hour_at_most(issuer: Issuer, verifier: TokenVerifier) -> None:
    late = int((NOW + 2 * DAY).timestamp())
    verifier.authenticate(token(issuer, exp=late), now=NOW)
    issuer.keys = [jwk(EC_KEY, "ec")]
    verifier.authenticate(token(issuer, exp=late), now=NOW + HOUR - SECOND)
    refuses(verifier, token(issuer, exp=late, sub="b"), NOW + HOUR)


def test_known_keys_go_on_while_the_issuer_is_down(
    issuer: Issuer, verifier: TokenVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    late = int((NOW + 3 * DAY).timestamp())
    verifier.authenticate(token(issuer), now=NOW)
    issuer.status = 503
    with caplog.at_level(logging.WARNING):
        assert verifier.authenticate(token(issuer, exp=late), now=NOW + 2 * DAY).id == "ana"
    assert "could not be fetched" in caplog.text


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (503, None),
        (302, None),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"keys": []}'),
        (200, b" " * 2_000_000),
        (200, json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"}, {"kty": "?"}, 3]}).encode()),
        (200, json.dumps({"keys": [jwk(RSA_KEY, "rsa", use="enc")]}).encode()),
    ],
)
def test_an_issuer_without_good_keys_is_an_outage_and_nobody_gets_in(
    issuer: Issuer, verifier: TokenVerifier, status: int, raw: bytes | None
) -> None:
    issuer.status, issuer.raw = status, raw
    with pytest.raises(StoreUnavailableError, match="could not be fetched"):
        verifier.authenticate(token(issuer), now=NOW)


def test_an_issuer_that_does_not_answer_is_not_waited_for(
    issuer: Issuer, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "FETCH_SECONDS", 0.05)
    release = threading.Event()
    monkeypatch.setattr(issuer, "answer", lambda path: b"{}" if release.wait(30) else b"")
    with pytest.raises(StoreUnavailableError):
        verifier.authenticate(token(issuer), now=NOW)
    release.set()


def test_keys_may_lie_in_a_file(issuer: Issuer, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_bytes(issuer.answer("/jwks"))
    verifier = TokenVerifier.from_settings(
        issuer=issuer.url, audience=AUDIENCE, project="shop", jwks="jwks.json", root=tmp_path
    )
    assert verifier.authenticate(token(issuer), now=NOW).id == "ana"
    assert issuer.asked == []


def test_without_a_place_the_issuer_s_configuration_names_it(issuer: Issuer) -> None:
    verifier = TokenVerifier.from_settings(issuer=issuer.url, audience=AUDIENCE, project="shop")
    assert verifier.authenticate(token(issuer), now=NOW).id == "ana"
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"jwks_uri": "http://evil.example/jwks"},
        {"jwks_uri": None},
        {"jwks_uri": 3},
    ],
)
def test_a_configuration_of_somebody_else_is_not_followed(issuer: Issuer, configuration: dict[str, Any]) -> None:
    issuer.configuration = configuration
    verifier = TokenVerifier.from_settings(issuer=issuer.url, audience=AUDIENCE, project="shop")
    with pytest.raises(StoreUnavailableError):
        verifier.authenticate(token(issuer), now=NOW)
    assert issuer.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"audience": ""},
        {"issuer": ""},
        {"jwks": "http://issuer.example/jwks"},
        {"jwks": "ftp://issuer.example/jwks"},
        {"issuer": "http://issuer.example"},
        {"roles": {"x": "boss"}},
    ],
)
def test_settings_that_anybody_could_use_against_us_are_refused(wrong: dict[str, Any]) -> None:
    given = {"issuer": "https://issuer.example", "audience": AUDIENCE, "project": "shop", **wrong}
    with pytest.raises(ConfigError):
        TokenVerifier.from_settings(**given)
