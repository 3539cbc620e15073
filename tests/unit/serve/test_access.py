"""Who is let in, and what a page of somebody else, or a flood, cannot do."""

from http.client import HTTPConnection
from pathlib import Path

import pytest
from serving import TOKEN, app_of, client_of, draw, state_of
from starlette.applications import Starlette

from medseg.errors import ConfigError
from medseg.serve import access
from medseg.serve.access import AccessRules

OHIF = "http://localhost:3000"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starlette:
    monkeypatch.setattr(access, "WAIT", 0.0)
    draw(tmp_path / "data" / "ct.nii.gz")
    return app_of(state_of(tmp_path / "data", origins=(OHIF,), largest_body=100_000))


def test_a_token_is_needed_in_the_header_or_in_the_address(app: Starlette) -> None:
    with client_of(app, token=None) as client:
        assert client.get("/info/").status_code == 401
        assert client.get("/info/", headers={"Authorization": "Bearer wrong-token-of-somebody"}).status_code == 403
        assert client.get("/wrong-token-of-somebody/info/").status_code == 403
        assert client.get("/info/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get(f"/{TOKEN}/info/").json()["version"]
        assert client.get("/healthz").json() == {"ok": True}
        # The place of the token says nothing about what is asked below it.
        assert client.get(f"/{TOKEN}/{TOKEN}/info/").status_code == 404


def test_3d_slicer_asks_its_user_for_the_token(app: Starlette) -> None:
    with client_of(app, token=None) as client:
        assert client.get("/auth/").json() == {"enabled": True}
        given = {"username": "ann", "grant_type": "password"}
        assert client.post("/auth/token", data={**given, "password": "guess"}).status_code == 403
        answer = client.post("/auth/token", data={**given, "password": TOKEN}).json()
        headers = {"Authorization": f"{answer['token_type']} {answer['access_token']}"}
        assert client.get("/auth/token/valid", headers=headers).status_code == 200
        assert client.get("/auth/token/valid").status_code == 401


def test_pages_of_other_origins_may_not_ask(app: Starlette) -> None:
    with client_of(app) as client:
        for origin in ("http://evil.example", "null", "http://127.0.0.1:9"):
            for method, path in (("POST", "/train/"), ("GET", "/info/"), ("PUT", "/datastore/label?image=ct")):
                assert client.request(method, path, headers={"Origin": origin}).status_code == 403
        assert client.get("/info/", headers={"Origin": str(client.base_url).rstrip("/")}).status_code == 200
        allowed = client.get("/info/", headers={"Origin": OHIF})
        assert allowed.headers["access-control-allow-origin"] == OHIF
        asked = {"Origin": OHIF, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "accept"}
        assert client.options(f"/{TOKEN}/infer/model", headers=asked).status_code == 200


def test_a_name_that_was_given_to_this_machine_by_a_stranger_is_refused(app: Starlette) -> None:
    """DNS rebinding: evil.example resolves to 127.0.0.1."""
    with client_of(app) as client:
        assert client.get("/info/", headers={"Host": "evil.example:8000"}).status_code == 400
        assert client.get("/info/", headers={"Host": "localhost:8000"}).status_code == 200


def test_two_gigabytes_are_refused_before_they_are_sent(app: Starlette) -> None:
    with client_of(app) as client:
        declared = HTTPConnection("127.0.0.1", client.base_url.port)
        declared.putrequest("PUT", f"/{TOKEN}/datastore/?image=x")
        declared.putheader("Content-Type", "multipart/form-data; boundary=x")
        declared.putheader("Content-Length", str(2**31))
        declared.endheaders()
        declared.send(b"--x\r\n")
        assert declared.getresponse().status == 413
        declared.close()
        form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.nii.gz"\r\n\r\n'
        chunks = [form, *[b"0" * 50_000] * 4]  # of which nobody said how many there are
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert client.put("/datastore/?image=x", content=iter(chunks), headers=headers).status_code == 413
        assert client.get("/info/").status_code == 200


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"host": "0.0.0.0"}, "leave --no-token out"),
        ({"token": "short"}, "--token: give 16 or more"),
        ({"token": "a/b" * 8}, "--token: give 16 or more"),
        ({"token": TOKEN, "origins": ("localhost:3000",)}, "--origin localhost:3000: write it as"),
    ],
)
def test_rules_that_would_let_strangers_in_are_refused(rules: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AccessRules(**rules)


def test_a_new_token_is_another_one_each_time() -> None:
    one, other = (AccessRules.of("0.0.0.0", None, use_token=True).token for _ in range(2))
    assert one is not None and other is not None and one != other and len(one) >= 32
    assert AccessRules.of("127.0.0.1", None, use_token=False).token is None
