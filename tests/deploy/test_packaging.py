"""deploy/: image, compose file, unit and manifests hold what they promise, and start nodes that can start.

Tools that are not here are skipped; CI installs those that PyPI has.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cli.main import app
from p2pfl.config import NodeConfig, build, parse_shard

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FLAG = re.compile(r"--[a-z-]+")


def tool(name: str) -> str | None:
    """Beside this interpreter, or anywhere."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


def configured(words: list[str]) -> NodeConfig:
    """The configuration that `node start <words>` is; every flag of ours has one value, or none."""
    assert words[:2] == ["node", "start"]
    keys: dict[str, object] = {}
    rest = iter(words[2:])
    for word in rest:
        assert FLAG.fullmatch(word), word
        name = word.removeprefix("--").replace("-", "_")
        whole = {"rounds": int}.get(name, str)
        keys[name] = True if name == "log_json" else whole(next(rest))
    return build(NodeConfig, keys)


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yml").read_text(encoding="utf-8"))
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    lines = (DEPLOY / "p2pfl.service").read_text(encoding="utf-8").splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


# -- compose


def test_five_nodes_have_five_parts_and_can_reach_each_other(compose: Any) -> None:
    services = compose["services"]
    configs = {name: configured(shlex.split(service["command"])) for name, service in services.items()}
    assert sorted(parse_shard(config.shard) for config in configs.values()) == [(i, 5) for i in range(5)]
    for name, config in configs.items():
        assert config.advertise == f"http://{name}:8470"
        assert config.peers
        assert {peer.removeprefix("http://").removesuffix(":8470") for peer in config.peers} <= {
            *services
        } - {name}
    reached, frontier = {"node0"}, ["node0"]
    while frontier:
        here = frontier.pop()
        named = {peer.split("/")[-1].split(":")[0] for peer in configs[here].peers}
        calling = {name for name, config in configs.items() if f"http://{here}:8470" in config.peers}
        frontier += sorted((named | calling) - reached)
        reached |= named | calling
    assert reached == set(services)


def test_containers_can_write_nothing_but_their_state(compose: Any) -> None:
    volumes = [service["volumes"] for service in compose["services"].values()]
    assert sorted(volume for [volume] in volumes) == [f"state{i}:/var/lib/p2pfl" for i in range(5)]
    for service in compose["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert (DEPLOY / compose["services"]["node0"]["build"]["context"]).resolve() == ROOT


# -- the image


def test_the_image_runs_as_nobody_special_on_every_machine() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    stages = text.split("\nFROM ")
    assert len(stages) == 3
    last = stages[-1]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert "/healthz" in last
    assert "download.pytorch.org/whl/cpu" in text
    assert "platform" not in re.sub("#.*", "", text)  # nothing that is of one machine alone
    command = re.search(r"^CMD (\[.*\])$", last, re.MULTILINE)
    assert command is not None
    config = configured(yaml.safe_load(command[1]))
    assert (config.listen, config.state_dir) == ("0.0.0.0:8470", "/var/lib/p2pfl/state")


def test_what_is_copied_is_there_and_not_ignored() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE) for word in line.split()]
    sources = {word for word in copied if word not in ("./",)}
    assert all((ROOT / word).exists() for word in sources)
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{word}" for word in sources} <= set(let_in)
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert set(wheel["targets"]["wheel"]["packages"]) <= sources


HADOLINT = tool("hadolint")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not here")
def test_hadolint_finds_nothing() -> None:
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# -- systemd


def test_the_unit_starts_a_node_and_hardens_it(unit: dict[str, list[str]]) -> None:
    [line] = unit["ExecStart"]
    program, *words = shlex.split(line)
    assert program == "/opt/p2pfl/bin/p2pfl"
    commands: Any = typer.main.get_command(app)
    start = commands.commands["node"].commands["start"]
    known = {flag for parameter in start.params for flag in parameter.opts}
    assert set(FLAG.findall(" ".join(words))) <= known
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "DynamicUser"):
        assert unit[key] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["CapabilityBoundingSet"] == [""]


ANALYZE = tool("systemd-analyze")
EXPOSURE = 2.0
"""Most that systemd-analyze may find, of 10; what a node needs is the network."""


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not here")
def test_systemd_understands_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    assert ANALYZE is not None
    copy = tmp_path / "p2pfl.service"  # verify wants its program to be there
    text = (DEPLOY / "p2pfl.service").read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/p2pfl/bin/p2pfl", sys.executable), encoding="utf-8")
    verified = subprocess.run([ANALYZE, "verify", copy], capture_output=True, text=True, check=False)
    said = [line for line in verified.stderr.splitlines() if "p2pfl.service" in line]
    assert (verified.returncode, said) == (0, [])
    judged = subprocess.run(
        [ANALYZE, "security", "--offline=true", "--no-pager", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    level = re.search(r"exposure level for p2pfl.service: ([\d.]+)", judged.stdout)
    if level is None:
        pytest.skip(f"this systemd-analyze judges no files: {judged.stderr.strip()}")
    assert float(level[1]) <= EXPOSURE


# -- Kubernetes


def test_pods_are_nodes_with_parts_of_their_own(manifests: dict[str, Any]) -> None:
    workload = manifests["StatefulSet"]["spec"]
    [container] = workload["template"]["spec"]["containers"]
    [script] = container["args"]
    for index in range(workload["replicas"]):
        pod = f"{manifests['StatefulSet']['metadata']['name']}-{index}"
        filled = (
            script.replace("${POD##*-}", str(index)).replace("$POD", pod).replace("$NAMESPACE", "default")
        )
        config = configured(shlex.split(filled)[2:])
        assert parse_shard(config.shard) == (index, workload["replicas"])
        assert config.advertise == f"http://{pod}.p2pfl.default.svc:8470"
        assert len(config.peers) == 2
    service = manifests["Service"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"]  # or nobody would ever find company, and be ready
    labels = workload["template"]["metadata"]["labels"]
    for selector in (
        service["selector"],
        workload["selector"]["matchLabels"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_pods_are_probed_and_can_do_little(manifests: dict[str, Any]) -> None:
    pod = manifests["StatefulSet"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    probes = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    }
    assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None, reason="kubernetes-validate is not here"
)
def test_manifests_are_what_kubernetes_takes(manifests: dict[str, Any]) -> None:
    import kubernetes_validate

    for document in manifests.values():
        assert kubernetes_validate.validate(document, "1.30", strict=True)
