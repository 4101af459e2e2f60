"""The manifests, rendered by a real Kustomize and held against the published schemas; and a cluster that is away."""

import kubernetes_validate
import pytest
import yaml

from lyrics_lm import processes
from lyrics_lm.deployment.kubernetes import Kubernetes, Place
from lyrics_lm.errors import DeliveryError
from lyrics_lm.records import LiveVersion, Verdict
from workspaces import run

VERDICT = Verdict("d", None, 0.0, ())
REPOSITORY = "registry.example.com:5000/you/lyrics"
RELEASE = "1.37"


def version(number):
    return LiveVersion(number, f"{number:064x}", "tiny", "by hand", 3.0, f"bento:{number}", "/nowhere")


@pytest.fixture
def target(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/dev/null")
    return Kubernetes(tmp_path, Place("songs", "edge"), lambda version: f"{REPOSITORY}:v{version.version}")


def rendered(target):
    """{(kind, name): object}, as a cluster would get them."""
    objects = yaml.safe_load_all(run(["kubectl", "kustomize", str(target.folder)]).stdout)
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def test_every_object_keeps_to_its_schema(target):
    """Strictly, all but the route, whose schema the Gateway API publishes elsewhere; in a namespace of their own."""
    target.deploy(version(1), "first", VERDICT)
    target.deploy(version(2), "better", VERDICT, share=5)
    objects = rendered(target)
    for (kind, _), one in objects.items():
        assert one["metadata"]["namespace"] == "songs"
        if kind != "HTTPRoute":
            kubernetes_validate.validate(one, RELEASE, strict=True)
    each = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"}
    roles = {(kind, f"lyrics-lm-{role}") for kind in each for role in ("stable", "canary")}
    assert set(objects) == roles | {("NetworkPolicy", "lyrics-lm"), ("HTTPRoute", "lyrics-lm")}


def test_each_role_selects_its_own_pods(target):
    """Whatever selects pods selects those of its role, and the route sends each its share."""
    target.deploy(version(1), "first", VERDICT)
    target.deploy(version(2), "better", VERDICT, share=5)
    objects = rendered(target)
    for role, number in (("stable", 1), ("canary", 2)):
        labels = {"app": "lyrics-lm", "role": role}
        pods = objects["Deployment", f"lyrics-lm-{role}"]["spec"]
        assert pods["template"]["spec"]["containers"][0]["image"] == f"{REPOSITORY}:v{number}"
        assert pods["selector"]["matchLabels"] == pods["template"]["metadata"]["labels"] == labels
        assert objects["Service", f"lyrics-lm-{role}"]["spec"]["selector"] == labels
        assert objects["PodDisruptionBudget", f"lyrics-lm-{role}"]["spec"]["selector"] == {"matchLabels": labels}
        scaled = objects["HorizontalPodAutoscaler", f"lyrics-lm-{role}"]["spec"]["scaleTargetRef"]
        assert scaled["name"] == f"lyrics-lm-{role}"
    route = objects["HTTPRoute", "lyrics-lm"]["spec"]
    assert route["parentRefs"] == [{"name": "edge"}]
    assert [(one["name"], one["weight"]) for one in route["rules"][0]["backendRefs"]] == [
        ("lyrics-lm-stable", 95),
        ("lyrics-lm-canary", 5),
    ]


def test_after_a_trial_one_role_is_left(target):
    """With the image that was promoted, and all of the traffic."""
    target.deploy(version(1), "first", VERDICT)
    target.deploy(version(2), "better", VERDICT, share=5)
    target.shift(100, "better")
    objects = rendered(target)
    assert ("Deployment", "lyrics-lm-canary") not in objects
    [backend] = objects["HTTPRoute", "lyrics-lm"]["spec"]["rules"][0]["backendRefs"]
    assert (backend["name"], backend["weight"]) == ("lyrics-lm-stable", 100)
    [container] = objects["Deployment", "lyrics-lm-stable"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{REPOSITORY}:v2"


def test_a_cluster_that_is_away_changes_nothing(target, tmp_path, monkeypatch):
    """One line says so; what should serve, and the manifests, are what they were."""
    target.deploy(version(1), "first", VERDICT)
    before = target.describe()
    server = {"server": f"http://127.0.0.1:{processes.free_port()}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "away",
        "clusters": [{"name": "away", "cluster": server}],
        "users": [{"name": "ann", "user": {}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "ann"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(DeliveryError, match="kubectl apply failed: .*refused"):
        target.deploy(version(2), "better", VERDICT)
    assert target.describe() == before
    assert "newTag: v1" in (target.folder / "stable" / "kustomization.yaml").read_text()
