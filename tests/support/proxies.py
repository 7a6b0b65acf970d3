"""The real nginx and HAProxy of this machine, with the examples in `deploy/`.

Only ports, addresses, host names' certificates and the paths of files are replaced. Each replacement fails if the
example has changed so that its text does not occur as often as expected.
"""

import contextlib
import http.client
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import ROOT, free_port, until

PROGRAMS = {"nginx": "nginx", "haproxy": "haproxy"}
EXAMPLES = {"nginx": ROOT / "deploy/nginx.conf.example", "haproxy": ROOT / "deploy/haproxy.cfg.example"}
PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"  # where Debian has them
MISSING = [name for name in (*PROGRAMS, "openssl") if not shutil.which(name, path=PATH)]
PROXIES_REQUIRED = os.environ.get("REVERSE_PROXIES") == "required"  # as in CI: a missing program is a failure
PROXIES_MISSING = (
    f"missing programs: {', '.join(MISSING)}; install them with apt-get install nginx-light haproxy openssl"
)
HOST = "sign.example.com"
INSIDE = "127.0.0.2"  # the address of the operator's own systems; other clients are outside
OUTSIDE = "127.0.0.1"
NGINX_MAIN = """
{user}daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 2048; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/example.conf;
}}
"""


class Proxy(NamedTuple):
    """A running proxy. `port` answers as `tls_port` does, without TLS; `plain_port` is that of port 80."""

    name: str
    port: int
    tls_port: int
    plain_port: int

    def request(
        self,
        method: str,
        path: str,
        *,
        source: str = OUTSIDE,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        port: int | None = None,
        context: ssl.SSLContext | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request from an address, on a new connection. Return status, headers and body of the answer."""
        kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
        more = {"context": context} if context else {}
        connection = kind("127.0.0.1", port or self.port, timeout=60, source_address=(source, 0), **more)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@contextlib.contextmanager
def running(name: str, folder: Path, *, upstream: int, second: int | None = None) -> Iterator[Proxy]:
    """Run a proxy with its example in front of the service on the port `upstream`, until the block ends.

    `second` is the port of another server of the service.
    """
    proxy = Proxy(name, free_port(), free_port(), free_port())
    folder.mkdir()
    make_certificate(folder)
    command = {"nginx": _nginx, "haproxy": _haproxy}[name](proxy, folder, [upstream, second or upstream])
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([shutil.which(command[0], path=PATH), *command[1:]], stdout=output, stderr=output)
    try:
        until(lambda: process.poll() is not None or _answers(proxy), what="the proxy answers")
        assert process.poll() is None, (folder / "output").read_text()
        yield proxy
    finally:
        process.terminate()
        process.wait(20)


def _answers(proxy: Proxy) -> bool:
    with contextlib.suppress(OSError):
        proxy.request("GET", "/", port=proxy.plain_port)
        return True
    return False


def replaced(name: str, *replacements: tuple[str, str, int]) -> str:
    """Return an example with its texts replaced, each of which must occur `count` times."""
    text = EXAMPLES[name].read_text()
    for old, new, count in replacements:
        assert text.count(old) == count, f"{EXAMPLES[name].name}: {old!r} occurs {text.count(old)} times, not {count}"
        text = text.replace(old, new)
    return text


def _nginx(proxy: Proxy, folder: Path, upstreams: list[int]) -> list[str]:
    entry = "    server 127.0.0.1:{} max_fails=0;\n"
    callbacks = [entry.format(port) for port in dict.fromkeys(upstreams)] * 2
    example = replaced(
        "nginx",
        ("listen 80;", f"listen 127.0.0.1:{proxy.plain_port};", 1),
        ("listen 443 ssl;", f"listen 127.0.0.1:{proxy.tls_port} ssl; listen 127.0.0.1:{proxy.port};", 1),
        (entry.format(8000) * 2, "".join(callbacks), 1),
        ("server 127.0.0.1:8000 max_conns", f"server 127.0.0.1:{upstreams[0]} max_conns", 1),
        ("/etc/letsencrypt/live/sign.example.com/fullchain.pem", f"{folder}/both.pem", 1),
        ("/etc/letsencrypt/live/sign.example.com/privkey.pem", f"{folder}/both.pem", 1),
        ("/var/log/nginx/", f"{folder}/", 2),
        ("10.0.0.0/8", INSIDE, 2),
    )
    (folder / "example.conf").write_text(example)
    user = "user root;\n" if os.geteuid() == 0 else ""  # may read the folders of tests
    (folder / "nginx.conf").write_text(NGINX_MAIN.format(folder=folder, user=user))
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def _haproxy(proxy: Proxy, folder: Path, upstreams: list[int]) -> list[str]:
    servers = [f"server receiver-{port} 127.0.0.1:{port} maxconn 64" for port in dict.fromkeys(upstreams)]
    tls = "bind :443 ssl crt /etc/haproxy/sign.example.com.pem"
    example = replaced(
        "haproxy",
        ("bind :80\n", f"bind 127.0.0.1:{proxy.plain_port}\n", 1),
        (tls, f"bind 127.0.0.1:{proxy.port}\n    bind 127.0.0.1:{proxy.tls_port} ssl crt {folder}/both.pem", 1),
        ("server receiver 127.0.0.1:8000 maxconn 64", "\n    ".join(servers), 2),
        ("10.0.0.0/8", INSIDE, 1),
        *([] if os.geteuid() == 0 else [("    user haproxy\n    group haproxy\n", "", 1)]),
    )
    (folder / "example.cfg").write_text(example)
    return ["haproxy", "-f", str(folder / "example.cfg")]


def make_certificate(folder: Path) -> None:
    """Write a key and a certificate for the host into one file."""
    options = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={HOST}"
    files = "-keyout key.pem -out certificate.pem"
    subprocess.run(["openssl", "req", *options.split(), *files.split()], cwd=folder, check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "certificate.pem").read_text() + (folder / "key.pem").read_text())
