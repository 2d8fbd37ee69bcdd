"""The manifests of manifests/kubernetes against the schemas of those who read them.

    python tests/peers/manifests.py        (from the repository's root; needs requirements-manifests.txt)

Jobs: Kubernetes' own OpenAPI schema, strictly, by kubernetes-validate. TrainJobs and TrainingRuntimes: the models that
Kubeflow generates of its API; a key that they do not know does not come back from them. Then what no schema says: what must
outlive a pod lies on a claim that is mounted, NCCL has shared memory, and the exit codes 75 and 2 are told apart. Each rule is
shown to refuse a manifest without what it asks for.
"""

import copy
import pathlib
import sys

import yaml

SKIPPED = 77
try:
    import kubernetes_validate
    from kubeflow_trainer_api import models
except ImportError as missing:
    print(f"SKIPPED: {missing}; pip install -r tests/peers/requirements-manifests.txt")
    sys.exit(SKIPPED)

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUBERNETES = "1.34"
KUBEFLOW = {"TrainJob": models.TrainerV1alpha1TrainJob, "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime}


def main():
    documents = {
        (path.name, document["kind"]): document
        for path in sorted((ROOT / "manifests/kubernetes").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    }
    for (name, kind), document in documents.items():
        check_schema(document)
        misspelt = copy.deepcopy(document)
        misspelt["spec"]["noSuchKey"] = 1
        assert fails(check_schema, misspelt), f"{name}: a wrong key of {kind} passes"
    runtime, job = documents["train-job.yaml", "TrainingRuntime"], documents["train-job.yaml", "TrainJob"]
    recipe = yaml.safe_load((ROOT / "configs/multi-node.yaml").read_text())
    check_training(runtime, job, recipe)
    for spoil in SPOILS:
        spoilt = copy.deepcopy(runtime)
        spoil(job_of(spoilt))
        assert fails(check_training, spoilt, job, recipe), spoil.__doc__
    print(f"{len(documents)} manifests fit their schemas; what training makes is kept")


def check_schema(document):
    if document["kind"] in KUBEFLOW:
        lost = list(differences(document, KUBEFLOW[document["kind"]].from_dict(document).to_dict()))
        assert not lost, f"{document['kind']}: unknown to Kubeflow: {lost}"
        for job in document["spec"].get("template", {}).get("spec", {}).get("replicatedJobs", []):
            kubernetes_validate.validate(
                {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}, "spec": job["template"]["spec"]},
                KUBERNETES,
                strict=True,
            )
        return
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def differences(mine, theirs, path=""):
    """The paths of what the model did not keep."""
    if isinstance(mine, dict):
        for key, value in mine.items():
            if not isinstance(theirs, dict) or key not in theirs:
                yield f"{path}.{key}"
            else:
                yield from differences(value, theirs[key], f"{path}.{key}")
    elif isinstance(mine, list):
        if not isinstance(theirs, list) or len(mine) != len(theirs):
            yield path
        else:
            for n, (a, b) in enumerate(zip(mine, theirs)):
                yield from differences(a, b, f"{path}[{n}]")
    elif mine != theirs and str(mine) != str(theirs):
        yield path


def job_of(runtime):
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def check_training(runtime, job, recipe):
    spec = job_of(runtime)
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    trainer = job["spec"]["trainer"]
    sets = dict(word.split("=", 1) for word in trainer["command"] if "=" in word)
    kept = {
        "output_dir": sets.get("output_dir", recipe["output_dir"]),
        "trajectories": sets.get("data.sources.trajectories", recipe["data"]["sources"]["trajectories"]),
        **{env["name"]: env["value"] for env in trainer["env"] if env["name"] == "HF_HOME"},
    }
    assert "HF_HOME" in kept
    for what, path in kept.items():
        claims = [mount for mount, volume in mounts.items() if "persistentVolumeClaim" in volume]
        assert any(pathlib.PurePosixPath(path).is_relative_to(mount) for mount in claims), f"{what} {path} dies with the pod"
    assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
    cache = pathlib.PurePosixPath(recipe["store"]["cache"]["folder"])
    assert any(cache.is_relative_to(mount) for mount in mounts), f"{cache} fills the container's own disk"
    actions = {}
    for rule in spec["podFailurePolicy"]["rules"]:
        for code in rule.get("onExitCodes", {}).get("values", []):
            assert rule["onExitCodes"]["containerName"] == container["name"]
            actions[code] = rule["action"]
    assert actions == {2: "FailJob", 75: "Ignore"}, actions
    assert pod["restartPolicy"] == "Never", "Kubernetes refuses a podFailurePolicy with any other"
    reference, metadata = job["spec"]["runtimeRef"], runtime["metadata"]
    assert (reference["kind"], reference["name"]) == (runtime["kind"], metadata["name"])
    assert job["spec"]["trainer"]["numNodes"] == runtime["spec"]["mlPolicy"]["numNodes"]


def without_claim(spec):
    """checkpoints without a claim pass"""
    spec["template"]["spec"]["volumes"][0] = {"name": "shared", "emptyDir": {}}


def without_memory(spec):
    """no shared memory passes"""
    spec["template"]["spec"]["containers"][0]["volumeMounts"].pop(1)


def without_codes(spec):
    """exit codes that nobody tells apart pass"""
    spec["podFailurePolicy"]["rules"].pop(1)


SPOILS = [without_claim, without_memory, without_codes]


def fails(check, *arguments):
    try:
        check(*arguments)
    except Exception:  # noqa: BLE001 whatever it raises, it refuses
        return True
    return False


if __name__ == "__main__":
    main()
