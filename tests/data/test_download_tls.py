"""Certificates, and redirections out of TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from downloads import BODY, SHA256, fetch, names
from webserver import running

from minicnn.data.errors import DownloadError


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that no authority knows, with its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        f"-subj /CN=local -addext subjectAltName=IP:127.0.0.1 -keyout {path}.key -out {path}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.key").read_bytes())
    return path


def test_download_refuses_an_unknown_certificate(certificate, page, path, monkeypatch):
    # The cure that is passed around must not help.
    monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
    with running(certificate) as server, pytest.raises(DownloadError) as caught:
        fetch(path, server.url(page(BODY)))
    text = str(caught.value)
    for hint in ("certificate fails: self", "ca-certificates", "SSL_CERT_FILE", SHA256, str(path)):
        assert hint in text
    assert server.hits == [] and "verify" not in text.lower()


def test_download_takes_a_known_certificate(certificate, page, path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with running(certificate) as server:
        assert fetch(path, server.url(page(BODY))).read_bytes() == BODY


def test_download_never_leaves_tls(certificate, server, page, path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    plain = server.url(page(BODY))
    with running(certificate) as secure, pytest.raises(DownloadError, match=f"to {plain}, which"):
        fetch(path, secure.url(page(status=302, headers={"Location": plain})))
    assert server.hits == [] and names(path) == []
