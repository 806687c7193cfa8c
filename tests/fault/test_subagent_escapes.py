"""Sub-agents that try to get out: each escape is really tried, from inside the sandbox of a real node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import LiveNode
from support.spawning import lone_node, needs_sandbox, spawned

from outlast.core.capability import mint
from outlast.home import Home


@pytest.fixture(scope="module")
def node() -> Iterator[LiveNode]:
    """A node whose sub-agents have one attempt."""
    needs_sandbox()
    with lone_node({"subagents": {"attempts": 1, "off_after": 100, "timeout": "30s"}}) as node:
        yield node


def test_nothing_outside_its_folder_can_be_written(node: LiveNode) -> None:
    """The system, the home, the workspace, its own token, /dev and the root: all refuse, and nothing has appeared."""
    places = [
        "/",
        "/usr",
        "/etc",
        "/dev",
        "/proc",
        "/root",
        "/var/tmp",
        *map(str, (node.home.root, node.home.workspace)),
    ]
    told = spawned(
        node,
        f"""
for place in {places!r}:
    tried(place, lambda: pathlib.Path(place, "escaped").write_text("x"))
tried("token", lambda: pathlib.Path(os.environ["OUTLAST_TOKEN_FILE"]).write_text("x"))
tried("papers", lambda: pathlib.Path(os.environ["OUTLAST_HOME"], "escaped").write_text("x"))
tried("own", lambda: pathlib.Path("own").write_text("x"))
tried("tmp", lambda: pathlib.Path("/tmp/escaped").write_text("x"))
tried("shm", lambda: pathlib.Path("/dev/shm/escaped").write_text("x"))
""",
    )
    wrote = {place for place, what in told["found"].items() if what == 1}
    assert wrote == {"own", "tmp", "shm"}, told["found"]
    assert not Path("/tmp/escaped").exists() and not Path("/dev/shm/escaped").exists()
    assert not any(os.path.exists(os.path.join(place, "escaped")) for place in places)


def test_no_key_and_no_other_home_can_be_read(node: LiveNode) -> None:
    """Keys, node.yml, the ledger, the workspace, a sibling's home beside ours, other sub-agents: they are not there at all."""
    beside = node.home.root.parent / "axiom"
    (beside / "etc" / "keys").mkdir(parents=True, exist_ok=True)
    (beside / "etc" / "node.yml").write_text("node: axiom\n")
    (beside / "etc" / "keys" / "axiom.key").write_text("secret")
    told = spawned(
        node,
        f"""
home, beside = {str(node.home.root)!r}, {str(beside)!r}
for path in ("etc/keys/coz.key", "etc/keys/capability", "etc/node.yml", "var/outlast.db", "workspace/STATE.json"):
    tried(path, lambda: open(os.path.join(home, path)).read())
tried("beside", lambda: open(os.path.join(beside, "etc/keys/axiom.key")).read())
tried("homes", lambda: sorted(os.listdir(os.path.dirname(home))))
tried("home", lambda: sorted(os.listdir(home)))
tried("others", lambda: sorted(os.listdir(os.path.join(home, "var/subagents"))))
""",
    )
    seen = told["found"]
    assert all("No such file" in seen[path] for path in (*list(seen)[:5], "beside")), seen
    assert seen["home"] == ["run", "var"] and seen["others"] == [told["id"]]


def test_the_workspace_is_read_where_that_is_allowed_and_never_written(node: LiveNode) -> None:
    """read:workspace shows it, read-only, and nothing else of the home."""
    told = spawned(
        node,
        f"""
workspace = {str(node.home.workspace)!r}
tried("read", lambda: sorted(os.listdir(workspace)))
tried("write", lambda: open(os.path.join(workspace, "escaped"), "w"))
tried("keys", lambda: os.listdir(os.path.join(workspace, "../etc/keys")))
""",
        allow=["read:workspace"],
    )
    assert "logs" in told["found"]["read"]
    assert "Read-only file system" in told["found"]["write"]
    assert "No such file" in told["found"]["keys"]


def test_no_other_process_is_seen_or_signalled(node: LiveNode) -> None:
    """The runtime's process id means nothing in there, and killing everything kills only itself."""
    assert node.process is not None
    told = spawned(
        node,
        f"""
tried("seen", lambda: sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
tried("kill", lambda: os.kill({node.process.pid}, signal.SIGKILL))
tried("trace", lambda: open("/proc/{node.process.pid}/environ").read())
tried("all", lambda: os.kill(-1, signal.SIGTERM))
""",
    )
    assert len(told["found"]["seen"]) <= 3, told["found"]
    assert "No such process" in told["found"]["kill"] and "No such file" in told["found"]["trace"]
    assert node.status()["pid"] == node.process.pid


def test_the_control_socket_is_not_there_and_its_own_wants_a_token(node: LiveNode) -> None:
    """control.sock cannot be reached, by its path or through the file system's links; agents.sock does nothing without a token."""
    told = spawned(
        node,
        f"""
def connect(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
        return "connected"
tried("control", lambda: connect({str(node.home.socket)!r}))
tried("link", lambda: (os.symlink({str(node.home.socket)!r}, "/tmp/l"), connect("/tmp/l")))
tried("root", lambda: connect("/proc/1/root" + {str(node.home.socket)!r}))
tried("own", lambda: connect(os.environ["OUTLAST_SOCKET"]))
tried("with", lambda: outlast("token"))
tried("keys", lambda: outlast("keys", "ls"))
del os.environ["OUTLAST_TOKEN_FILE"]
tried("without", lambda: outlast("status"))
tried("resume", lambda: outlast("resume", "--reason", "me"))
""",
    )
    seen = told["found"]
    assert all("No such file" in seen[one] for one in ("control", "link", "root")), seen
    assert seen["own"] == "connected" and seen["with"][0] == 0
    assert seen["without"] == [2, "outlast: token: none was shown; sub-agents have one: OUTLAST_TOKEN_FILE"]
    assert seen["resume"][0] == 2 and "none was shown" in seen["resume"][1]


def test_no_network_is_there(node: LiveNode) -> None:
    """Not the node's own port on loopback either, and no abstract socket; `use:network` is refused where node.yml says no."""
    port = node.config["listen"]["port"]
    told = spawned(
        node,
        f"""
tried("loopback", lambda: socket.create_connection(("127.0.0.1", {port}), 2).close())
tried("out", lambda: socket.create_connection(("192.0.2.1", 80), 2).close())
tried("names", lambda: socket.if_nameindex())
""",
    )
    assert "refused" in told["found"]["loopback"] or "unreachable" in told["found"]["loopback"], told["found"]
    assert "unreachable" in told["found"]["out"]
    assert [name for _, name in told["found"]["names"]] == ["lo"]
    assert (
        "use:network is not to be had here" in node.cli("spawn", "--task", "x", "--allow", "use:network", "true").stderr
    )


def test_an_order_that_is_not_allowed_is_refused_and_one_that_is_is_done(node: LiveNode) -> None:
    """message:note lets it tell a peer something; status, facts, spawning, keys and an emergency are not its business."""
    told = spawned(
        node,
        """
tried("note", lambda: outlast("note", "axiom", "from inside"))
for words in (["status"], ["facts", "add", "a", "b", "c"], ["handoff", "axiom", "x"], ["ps"], ["emergency", "--reason", "x"],
              ["spawn", "--task", "x", "true"], ["feature", "off", "subagents", "--reason", "x"], ["step", "begin", "--unit", "a"]):
    tried(words[0], lambda: outlast(*words))
""",
        allow=["message:note"],
    )
    seen = dict(told["found"])
    assert seen.pop("note")[0] == 0
    assert "to axiom: from inside" in node.journal()
    assert all(code != 0 for code, _ in seen.values()), seen
    assert "token: it does not allow read:status" in seen["status"][1]
    assert node.status()["mode"] == "normal"


def test_a_token_can_be_narrowed_and_not_widened(node: LiveNode) -> None:
    """What it passes on is less and works; asking for more, taking a caveat out, or changing one is refused by the node."""
    told = spawned(
        node,
        """
token = open(os.environ["OUTLAST_TOKEN_FILE"]).read().strip()
def using(text, *words):
    os.environ["OUTLAST_TOKEN"] = text
    try:
        return outlast(*words)
    finally:
        del os.environ["OUTLAST_TOKEN"]
tried("more", lambda: outlast("token", "--allow", "message:handoff"))
tried("less", lambda: outlast("token", "--allow", "read:status"))
less = found["less"][1]
tried("less works", lambda: using(less, "status"))
tried("less is less", lambda: using(less, "note", "axiom", "x"))
tried("cut", lambda: using(".".join([*less.split(".")[:-2], less.split(".")[-1]]), "note", "axiom", "x"))
tried("changed", lambda: using(token.replace("read:status", "read:status,use:network"), "status"))
tried("now", lambda: (outlast("token", "--timeout", "1ms")))
time.sleep(1.1)
tried("late", lambda: using(found["now"][1], "status"))
""",
        allow=["read:status", "message:note"],
    )
    seen = told["found"]
    assert seen["more"][0] == 2 and "not yours to pass on" in seen["more"][1]
    assert seen["less works"][0] == 0, seen
    assert "it does not allow message:note" in seen["less is less"][1]
    assert "not one that this node gave out" in seen["cut"][1]
    assert "not one that this node gave out" in seen["changed"][1]
    assert "its time is over" in seen["late"][1]


def test_a_token_is_worth_nothing_when_its_run_is_over(node: LiveNode, tmp_path: Path) -> None:
    """A token that was carried out is refused, also before its time is over; so is one that a thief of another key mints."""
    told = spawned(
        node, 'tried("token", lambda: open(os.environ["OUTLAST_TOKEN_FILE"]).read().strip())', allow=["read:status"]
    )
    forged = mint(bytes(32), told["id"], 1, ["read:status"], int(time.time()) + 1000)
    for token, why in ((told["found"]["token"], "its run of"), (forged, "not one that this node gave out")):
        environment = {**os.environ, "OUTLAST_TOKEN": token, "OUTLAST_SOCKET": str(node.home.agents_socket)}
        outlast = [str(Path(sys.executable).parent / "outlast"), "--home", str(node.home.root), "status"]
        done = subprocess.run(outlast, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and why in done.stderr


def test_orders_come_at_a_rate(node: LiveNode) -> None:
    """One that asks without end is refused after a minute's worth, and the node goes on."""
    told = spawned(
        node,
        """
import http.client
def ask():
    one = http.client.HTTPConnection("node")
    one.sock = socket.socket(socket.AF_UNIX)
    one.sock.connect(os.environ["OUTLAST_SOCKET"])
    one.request("POST", "/token", b"", {"authorization": "Bearer " + open(os.environ["OUTLAST_TOKEN_FILE"]).read().strip()})
    return one.getresponse().status
tried("asked", lambda: [ask() for _ in range(80)])
""",
    )
    asked = told["found"]["asked"]
    assert asked[0] == 200 and asked[-1] == 400 and 55 <= asked.count(200) <= 65


def test_the_key_of_tokens_is_the_nodes_alone(node: LiveNode) -> None:
    """0600 in etc/keys; and it is nowhere in the logs."""
    spawned(node, "")
    path = Home(node.home.root).capability_key
    assert path.stat().st_mode & 0o777 == 0o600
    secret = path.read_text().strip()
    assert secret not in json.dumps(node.status()) and secret not in node.log()
    assert all(secret not in log.read_text() for log in node.home.logs.glob("*.jsonl"))
