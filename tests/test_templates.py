"""Templates for clusters: what they start is what batch/README.md says, and safe to start."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cicy_utils import cluster
from cicy_utils.batch import __main__ as command
from cicy_utils.batch import workers

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "cicy_utils" / "batch" / "templates"
SBATCH = (FOLDER / "slurm.sbatch").read_text(encoding="utf-8")
MANIFEST = (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")
OBJECTS = list(yaml.safe_load_all(MANIFEST))
PODS = ["cicy4-scheduler", "cicy4-worker", "cicy4-batch"]
SERVICE = "tls://cicy4-scheduler:8786"


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in OBJECTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pod(name: str) -> dict[str, Any]:
    return named("Job" if name == "cicy4-batch" else "Deployment", name)["spec"]["template"]


def container(name: str) -> dict[str, Any]:
    (found,) = pod(name)["spec"]["containers"]
    return found


def array_of(script: str, name: str, **values: str) -> list[str]:
    """The words of an array that a line of a script makes, as bash understands it."""
    (line,) = re.findall(rf"^{name}=\(.*\)$", script, re.MULTILINE)
    code = f"""{line}; printf '%s\\n' "${{{name}[@]}}" """
    done = subprocess.run(
        ["bash", "-uc", code], env=values, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def documented() -> tuple[list[str], list[str]]:
    """The command for a worker, as the page on batches has it, and what keeps it at home."""
    page = ROOT / "cicy_utils" / "batch" / "README.md"
    readme = page.read_text(encoding="utf-8").replace("\\\n", "")
    (line,) = re.findall(r"^\.venv/bin/(dask worker .*)$", readme, re.MULTILINE)
    words = shlex.split(line, comments=True)
    end = words.index("--no-dashboard") + 1
    return words[:end], words[end:]


def test_all_start_the_same_worker():
    words, here = documented()
    address = words[2]
    assert words[:2] == ["dask", "worker"]
    assert array_of(SBATCH, "worker", address=address, RESOURCE=cluster.GPU) == words
    page = here[here.index("--dashboard-address") :]
    there = [SERVICE if word == address else word for word in words]
    command = container("cicy4-worker")["command"]
    assert command == [*there, *page, *tls_options("cicy4-worker")]


def test_on_one_node_the_script_keeps_workers_at_home_as_the_readme_does():
    _, here = documented()
    (first,) = re.findall(r"^host=127.0.0.1 (here=\(.*\))$", SBATCH, re.MULTILINE)
    (more,) = re.findall(r"^(here\+=\(.*?\))", SBATCH, re.MULTILINE)
    assert array_of(f"{first}\n", "here") + array_of(more.replace("+", ""), "here") == here


def test_the_worker_command_is_one_that_dask_knows():
    done = subprocess.run(
        [sys.executable, "-m", "dask", "worker", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    options = [*documented()[0], *documented()[1], *tls_options("cicy4-worker")]
    for option in options:
        assert not option.startswith("--") or option in done.stdout


@pytest.mark.parametrize(
    ("name", "word"), [("cicy4-scheduler", "scheduler"), ("cicy4-batch", "run")]
)
def test_what_run_all_is_asked_for_it_understands(name, word):
    words = container(name)["command"]
    assert words[:2] == ["bash", "run_all.sh"]
    options = command.parser(word).parse_args(words[3:] if words[2] == word else words[2:])
    assert str(options.tls_cert) == "/tls/cert.pem"
    if word == "run":
        assert (options.scheduler, options.resource) == (SERVICE, cluster.GPU)
    else:
        (port,) = named("Service", "cicy4-scheduler")["spec"]["ports"]
        assert options.port == port["targetPort"] == port["port"] == 8786


def test_the_scripts_run_is_understood_too():
    (line,) = re.findall(r"^bash run_all.sh (--profile.*) \"\$\{tls", SBATCH, re.MULTILINE)
    values = {"PROFILE": "paper", "address": "tcp://10.0.0.1:8786", "RESOURCE": "CPU"}
    words = [re.sub(r"\$(\w+)", lambda m: values[m[1]], word) for word in shlex.split(line)]
    options = command.parser("run").parse_args(words)
    assert (options.scheduler, options.resource) == ("tcp://10.0.0.1:8786", "CPU")


def test_the_script_is_one_for_bash_and_asks_to_be_told_before_its_end():
    subprocess.run(["bash", "-n", str(FOLDER / "slurm.sbatch")], check=True)
    asked = re.findall(r"^#SBATCH --(\S+)", SBATCH, re.MULTILINE)
    seconds = next(int(option.rpartition("@")[2]) for option in asked if "signal=B:TERM@" in option)
    assert seconds > 2 * workers.STOP_SECONDS
    assert {"requeue", "open-mode=append", "gpus-per-task=1"} <= set(asked)
    assert SBATCH.index("#SBATCH") < SBATCH.index("set -euo")  # later ones are not read


def test_nothing_is_without_its_fields():
    kinds = {
        "PersistentVolumeClaim": "v1",
        "Service": "v1",
        "NetworkPolicy": "networking.k8s.io/v1",
        "Deployment": "apps/v1",
        "Job": "batch/v1",
    }
    for one in OBJECTS:
        assert one["apiVersion"] == kinds[one["kind"]]
        assert one["metadata"]["labels"]["app"] == "cicy4"
    assert {one["kind"] for one in OBJECTS} == set(kinds)
    claim = named("PersistentVolumeClaim", "cicy4-clone")["spec"]
    assert claim["accessModes"] == ["ReadWriteMany"]
    assert named("Job", "cicy4-batch")["spec"]["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", ["cicy4-scheduler", "cicy4-worker"])
def test_selectors_find_their_pods(name):
    wanted = named("Deployment", name)["spec"]["selector"]["matchLabels"]
    assert wanted == pod(name)["metadata"]["labels"]
    assert all(wanted != pod(other)["metadata"]["labels"] for other in PODS if other != name)


def test_the_scheduler_is_reached_by_these_pods_only():
    service = named("Service", "cicy4-scheduler")["spec"]
    assert service["type"] == "ClusterIP"
    assert service["selector"] == pod("cicy4-scheduler")["metadata"]["labels"]
    policy = named("NetworkPolicy", "cicy4")["spec"]
    ours = {"matchLabels": {"app": "cicy4"}}
    assert policy["podSelector"] == ours
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"from": [{"podSelector": ours}]}]
    assert all(pod(name)["metadata"]["labels"]["app"] == "cicy4" for name in PODS)


@pytest.mark.parametrize("name", PODS)
def test_pods_have_few_rights_and_bounded_resources(name):
    spec = pod(name)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    volumes = {volume["name"] for volume in spec["volumes"]}
    for one in spec["containers"] + spec["initContainers"]:
        rights = one["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        for bound in one["resources"].values():
            assert {"cpu", "memory"} <= set(bound)
        assert {mount["name"] for mount in one.get("volumeMounts", [])} <= volumes
    (main,) = spec["containers"]
    assert {mount["name"] for mount in main["volumeMounts"]} == volumes
    gpus = main["resources"]["limits"].get("nvidia.com/gpu", 0)
    assert gpus == (1 if name == "cicy4-worker" else 0)
    assert main["workingDir"] == "/clone"


def test_everything_is_encrypted():
    for name in PODS:
        assert container(name)["command"][-6:] == tls_options(name)
        (secret,) = [one["secret"] for one in pod(name)["spec"]["volumes"] if "secret" in one]
        assert f"kubectl create secret generic {secret['secretName']} " in MANIFEST


def tls_options(name: str) -> list[str]:
    """The options for the certificates, where the secret is mounted."""
    (folder,) = [
        mount["mountPath"] for mount in container(name)["volumeMounts"] if mount["name"] == "tls"
    ]
    files = {"--tls-ca-file": "ca.pem", "--tls-cert": "cert.pem", "--tls-key": "key.pem"}
    return [word for option, file in files.items() for word in (option, f"{folder}/{file}")]
