"""Runs an application on a port until Ctrl-C."""

import socket
import ssl
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from medseg.errors import ConfigError, OutputError
from medseg.serve.access import AccessRules

BACKLOG = 128
LONGEST_IDLE = 30  # seconds that a connection is kept open
LONGEST_END = 5  # seconds that requests have to end after Ctrl-C


def opened_port(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; port 0 takes a free one.

    Raises:
        OutputError: The port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol asyncio knows it for TCP, and sends without delay: else each answer waits for 40 ms.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host.strip("[]"), port))
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise OutputError(f"port {port} of {host} cannot be used ({error.strerror}); choose another --port") from error
    return opened


def address_of(opened: socket.socket, rules: AccessRules, in_tls: bool) -> str:
    """Returns the URL that clients are given, with the token."""
    host = f"[{rules.host}]" if ":" in rules.host else rules.host
    port = opened.getsockname()[1]
    token = "" if rules.token is None else f"{rules.token}/"
    return f"http{'s' if in_tls else ''}://{host}:{port}/{token}"


def check_tls(certificate: Path | None, key: Path | None) -> None:
    """Checks that the files of TLS belong together.

    Raises:
        ConfigError: One is missing or wrong.
    """
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise ConfigError("--certificate and --key go together: the two files of TLS, in PEM")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise ConfigError(f"--certificate {certificate}, --key {key}: cannot be used ({reason})") from error


def run_until_interrupted(
    app: Starlette, opened: socket.socket, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Answers requests until Ctrl-C or SIGTERM.

    Args:
        app: What answers.
        opened: The socket that listens; it is closed at the end.
        certificate: Of TLS, in PEM.
        key: Of TLS, in PEM.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=LONGEST_IDLE,
        timeout_graceful_shutdown=LONGEST_END,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        uvicorn.Server(config).run(sockets=[opened])
    except KeyboardInterrupt:  # uvicorn raises it once more, after it has ended
        pass
    finally:
        opened.close()
