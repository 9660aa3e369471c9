"""The cluster descriptions, checked without a cluster: their schemas, and that nothing is open without a password."""

from __future__ import annotations

import copy
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
HERE = Path(__file__).parent
RAY_UP = sorted((CLUSTER / "ray-up").glob("*.yaml"))
KUBERAY = [CLUSTER / "kuberay" / name for name in ("raycluster.yaml", "rayjob.yaml")]


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def problems(document: dict[str, Any], schema: str) -> list[str]:
    validator = jsonschema.Draft7Validator(json.loads((HERE / schema).read_text()))
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in validator.iter_errors(document)]


# KubeRay


def cluster_spec(document: dict[str, Any]) -> dict[str, Any]:
    return document["spec"]["rayClusterSpec"] if document["kind"] == "RayJob" else document["spec"]


def groups(document: dict[str, Any]) -> list[dict[str, Any]]:
    spec = cluster_spec(document)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
class TestKubeRay:
    def test_fits_the_schema(self, path):
        assert problems(load(path), "kuberay_schema.json") == []

    def test_a_misspelt_field_or_an_unquoted_number_does_not(self, path):
        document = load(path)
        spec = cluster_spec(document)
        spec["workerGroupSpecs"][0]["minReplica"] = 1
        spec["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
        found = "\n".join(problems(document, "kuberay_schema.json"))
        assert "minReplica" in found
        assert "0 is not of type 'string'" in found

    def test_pods_fit_kubernetes(self, path):
        import kubernetes_validate

        for group in groups(load(path)):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
            kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)

    def test_token_from_a_secret_and_no_service_outside(self, path):
        spec = cluster_spec(load(path))
        assert spec["authOptions"] == {"mode": "token", "secretName": "posegen-ray-token"}
        assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
        assert not spec["headGroupSpec"].get("enableIngress")

    def test_containers_run_as_a_user_without_privileges(self, path):
        for group in groups(load(path)):
            for container in group["template"]["spec"]["containers"]:
                security = container["securityContext"]
                assert security["runAsNonRoot"] is True
                assert security["runAsUser"] == 1000
                assert security["allowPrivilegeEscalation"] is False
                assert security["capabilities"] == {"drop": ["ALL"]}

    def test_workers_scale_from_none_and_have_a_gpu_and_shared_memory(self, path):
        spec = cluster_spec(load(path))
        assert spec["enableInTreeAutoscaling"] is True
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        worker = spec["workerGroupSpecs"][0]
        assert worker["minReplicas"] == 0 < worker["maxReplicas"]
        container = worker["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        shm = next(v for v in worker["template"]["spec"]["volumes"] if v["name"] == "shm")
        assert shm["emptyDir"]["medium"] == "Memory"

    def test_ray_version_is_the_installed_one(self, path):
        import ray

        assert cluster_spec(load(path))["rayVersion"] == ray.__version__


def test_the_job_has_the_same_cluster():
    cluster, job = (load(path) for path in KUBERAY)
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]
    assert job["spec"]["shutdownAfterJobFinishes"] is True


def test_a_job_that_cannot_succeed_is_not_tried_on_cluster_after_cluster():
    """KubeRay retries whatever the exit status: a mistyped setting would cost as many GPU clusters."""
    spec = load(CLUSTER / "kuberay" / "rayjob.yaml")["spec"]
    assert (spec["backoffLimit"], spec["submitterConfig"]["backoffLimit"]) == (0, 0)
    assert 3600 < spec["activeDeadlineSeconds"] <= 7 * 86400


@pytest.mark.parametrize("name", ["storage.yaml", "networkpolicy.yaml"])
def test_plain_kubernetes_objects(name):
    import kubernetes_validate

    kubernetes_validate.validate(load(CLUSTER / "kuberay" / name), kubernetes_validate.latest_version(), strict=True)


def test_the_network_policy_lets_strangers_reach_nothing():
    spec = load(CLUSTER / "kuberay" / "networkpolicy.yaml")["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    own, others = spec["ingress"]
    assert own["from"] == [{"podSelector": spec["podSelector"]}]
    assert [port["port"] for port in others["ports"]] == [8265]
    assert all("podSelector" in source for source in others["from"])  # no bare namespaces, no address blocks


# ray up


@pytest.mark.parametrize("path", RAY_UP, ids=lambda path: path.stem)
class TestRayUp:
    def prepared(self, path: Path) -> dict[str, Any]:
        from ray.autoscaler._private.util import prepare_config, validate_config

        config = prepare_config(copy.deepcopy(load(path)))
        validate_config(config)
        return config

    def test_passes_rays_own_validator(self, path):
        config = self.prepared(path)
        assert config["available_node_types"]["gpu_spot"]["max_workers"] == 8

    def test_a_misspelt_field_does_not(self, path):
        from ray.autoscaler._private.util import prepare_config, validate_config

        with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
            validate_config(prepare_config(load(path) | {"idle_timeout_minute": 3}))

    def test_gpu_workers_are_spot_and_scale_from_none(self, path):
        worker = load(path)["available_node_types"]["gpu_spot"]
        assert worker["min_workers"] == 0 < worker["max_workers"]
        assert worker["resources"]["GPU"] == 1
        node = worker["node_config"]
        spot = node.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        assert spot or {"preemptible": True} in node["scheduling"]

    def test_every_start_has_the_token_and_the_dashboard_is_private(self, path):
        config = self.prepared(path)
        assert config["file_mounts"]["/home/posegen/.ray/auth_token"] == "~/.ray/auth_token"
        head = [line for line in config["head_start_ray_commands"] if "ray start" in line]
        workers = [line for line in config["worker_start_ray_commands"] if "ray start" in line]
        assert len(head) == len(workers) == 1
        for line in head + workers:
            assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token ray start" in line
        assert "--dashboard-host=127.0.0.1" in head[0]


# compose


def compose() -> dict[str, Any]:
    return load(CLUSTER / "compose" / "compose.yaml")


def test_compose_fits_the_schema():
    assert problems(compose(), "compose_schema.json") == []
    broken = compose()
    broken["services"]["mlflow"]["port"] = ["5000"]
    assert any("'port' was unexpected" in problem for problem in problems(broken, "compose_schema.json"))


def test_compose_names_only_what_it_declares():
    document = compose()
    for service in document["services"].values():
        assert set(service.get("networks", [])) <= set(document["networks"])
        assert set(service.get("depends_on", {})) <= set(document["services"])
        volumes = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert {volume for volume in volumes if not volume.startswith(".")} <= set(document["volumes"])
        for volume in volumes:
            assert not volume.startswith(".") or (CLUSTER / "compose" / volume).exists()


def test_compose_publishes_on_loopback_only():
    published = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}
    assert sorted(published) == ["mlflow", "ray-head"]
    for ports in published.values():
        for port in ports:
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port
    internal = {name for name, network in compose()["networks"].items() if network.get("internal")}
    assert internal == {"ray", "store"}
    for name, service in compose()["services"].items():
        assert name in published or set(service["networks"]) <= internal


def test_compose_has_a_password_for_every_service():
    services = compose()["services"]
    starts = [name for name, service in services.items() if "ray" in service.get("command", [])[:1]]
    assert sorted(starts) == ["ray-head", "ray-worker"]
    for name in starts:
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert services[name]["environment"]["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert "trust" not in services["postgres"]["environment"]["POSTGRES_INITDB_ARGS"]
    assert services["store"]["environment"]["ROOT_SECRET_ACCESS_KEY"].startswith("${S3_SECRET_KEY:?")
    assert services["mlflow"]["environment"]["MLFLOW_AUTH_ADMIN_PASSWORD"].startswith("${MLFLOW_ADMIN_PASSWORD:?")


def test_compose_secrets_are_all_made_and_none_is_written_down(tmp_path):
    text = (CLUSTER / "compose" / "compose.yaml").read_text()
    wanted = set(re.findall(r"\$\{(\w+)", text))
    example = dict(
        line.split("=", 1)
        for line in (CLUSTER / "compose" / "env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert wanted == set(example)
    assert {name for name, value in example.items() if value} == {"MLFLOW_ADMIN_USERNAME"}

    script = [sys.executable, str(CLUSTER / "compose" / "make_secrets.py"), "--into", str(tmp_path)]
    said = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    assert "posegen submit run experiment=quickstart run.outputs=/outputs --address" in said  # the workers' mount
    made = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines() if "=" in line)
    secrets = [made[name] for name in example if name != "MLFLOW_ADMIN_USERNAME"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", secret) for secret in secrets)
    assert len(set(secrets)) == len(secrets)
    assert (tmp_path / "auth_token").read_text() == made["RAY_AUTH_TOKEN"]
    for name in (".env", "auth_token"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    again = subprocess.run(script, check=False, capture_output=True, text=True)
    assert again.returncode == 1
    assert "exists and is kept" in again.stderr


def test_mlflow_starts_with_a_login_and_not_without_secrets(tmp_path):
    """`mlflow` is replaced by a program that writes down how it was called."""
    stub = tmp_path / "mlflow"
    stub.write_text(
        f"#!{sys.executable}\nimport os, sys\nprint(*sys.argv[1:])\n"
        "print(open(os.environ['MLFLOW_AUTH_CONFIG_PATH']).read())\n"
    )
    stub.chmod(0o755)
    script = [sys.executable, str(CLUSTER / "compose" / "mlflow_server.py")]
    bare = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    refused = subprocess.run(script, env=bare, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "MLFLOW_AUTH_ADMIN_PASSWORD is empty" in refused.stderr
    full = bare | {
        "MLFLOW_AUTH_ADMIN_PASSWORD": "a" * 64, "MLFLOW_FLASK_SERVER_SECRET_KEY": "b" * 64,
        "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:p%25w@postgres/mlflow",
    }  # fmt: skip
    said = subprocess.run(script, env=full, check=True, capture_output=True, text=True).stdout
    assert "--app-name basic-auth" in said
    assert "--allowed-hosts mlflow:5000,localhost:5000,127.0.0.1:5000" in said
    import configparser

    parser = configparser.ConfigParser()
    parser.read_string(said.split("\n", 1)[1])
    assert parser["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert parser["mlflow"]["database_uri"] == full["MLFLOW_BACKEND_STORE_URI"]


# the image


def test_the_image_runs_as_a_user_with_pinned_versions():
    text = (CLUSTER / "image" / "Dockerfile").read_text()
    users = re.findall(r"^USER (.+)$", text, re.MULTILINE)
    assert users[-1] == "1000:0"
    assert 'find "$HOME" /outputs -user 1000 ! -type l -exec chgrp 0 {} + -exec chmod g=u {} +' in text
    assert "-c constraints.txt" in text
    assert "ARG BASE=" in text
    for source in re.findall(r"^COPY --chown=\S+ (.+) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert name == "README.md" or (ROOT / name).exists(), name


def test_constraints_are_the_installed_versions():
    from importlib.metadata import version

    lines = (CLUSTER / "image" / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {"torch", "ray", "mlflow", "numpy"} <= set(pins)
    for name in ("ray", "mlflow", "hydra-core"):
        assert pins[name] == version(name)


def test_no_secret_and_no_address_of_a_registry_is_written_down():
    for path in CLUSTER.rglob("*"):
        if (
            path.is_file()
            and path.suffix in (".yaml", ".py", ".example", ".txt", "")
            and "__pycache__" not in path.parts
        ):
            text = path.read_text()
            assert not re.search(r"\b[0-9a-f]{32,}\b", text), path
            assert not re.search(r"image: *\S+\.\S+/", text), path
