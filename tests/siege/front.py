"""nginx with the project's example in front of both hosts, in the namespace of the switch."""

import shutil
import subprocess
from pathlib import Path

from tests.siege.hosts import Host
from tests.siege.service import PORT
from tests.support.proxies import NGINX_MAIN, PATH, make_certificate, replaced

FRONT_PORT = 8080  # answers as the TLS port does, without TLS
ENTRY = "    server {}:{} {};\n"


def start_nginx(folder: Path, hosts: list[Host]) -> subprocess.Popen[bytes]:
    """Start nginx. Only addresses, the certificate and paths differ from the example."""
    folder.mkdir()
    make_certificate(folder)
    callbacks = "".join(ENTRY.format(host.address, PORT, "max_fails=0") for host in hosts * 2)
    people = "".join(ENTRY.format(host.address, PORT, "max_conns=64") for host in hosts)
    example = replaced(
        "nginx",
        ("listen 80;", "listen 8081;", 1),
        ("listen 443 ssl;", f"listen 8443 ssl; listen {FRONT_PORT};", 1),
        (ENTRY.format("127.0.0.1", 8000, "max_fails=0") * 2, callbacks, 1),
        (ENTRY.format("127.0.0.1", 8000, "max_conns=64"), people, 1),
        ("/etc/letsencrypt/live/sign.example.com/fullchain.pem", f"{folder}/both.pem", 1),
        ("/etc/letsencrypt/live/sign.example.com/privkey.pem", f"{folder}/both.pem", 1),
        ("/var/log/nginx/", f"{folder}/", 2),
        ("10.0.0.0/8", "10.77.0.1", 2),
    )
    (folder / "example.conf").write_text(example)
    (folder / "nginx.conf").write_text(NGINX_MAIN.format(folder=folder, user="user root;\n"))
    nginx = shutil.which("nginx", path=PATH) or "nginx"
    with (folder / "output").open("wb") as output:
        return subprocess.Popen([nginx, "-c", f"{folder}/nginx.conf", "-p", str(folder)], stdout=output, stderr=output)
