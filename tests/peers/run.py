"""Runs every check against other people's libraries in this folder and ends with a count.

    make test-peers        or:  python tests/peers/run.py     (from the repository's root, after `make build`)

Trains a few steps of the demo's recipe into a temporary folder, then: TensorBoard reads its events, diffusers loads
its learned embeddings (and those of runs of two and of eight emotions) and makes the editor's picture with what `editor export`
writes, PyTorch computes the gradients of a step once more, pyarrow, duckdb and Hugging Face datasets
read the shards, torchrun, Slurm (where slurm-wlm and munge are installed) and Kubeflow's variables launch the trainer, the
shards are read from moto's S3, Chromium opens a report and uses the editor's page (axe looks for barriers there,
schemathesis asks its interface, 20 sessions share it), three versions of diffusers and
transformers write models that are read to the same weights, and the published FindingEmo annotations (fetched from PyPI) are counted
as Python's csv module counts them.
Pinned versions: requirements.txt.
"""
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
STEPS = 4
SKIPPED = 77


def main():
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        checks = {
            "torchrun launches the trainer": ["torchrun_launch.py", str(run), str(STEPS)],
            "two torchrun nodes on one machine": ["launchers.py", "torchrun"],
            "the variables that Kubeflow sets": ["launchers.py", "kubeflow"],
            "real Slurm": ["launchers.py", "slurm"],
            "real Slurm shards": ["launchers.py", "slurm", "shard"],
            "two torchrun nodes shard": ["launchers.py", "torchrun", "shard"],
            "TensorBoard reads the events": ["tensorboard_events.py", str(run)],
            "diffusers loads the tokens": ["learned_embeds.py", str(run), "assets/pocket"],
            "diffusers makes the editor's picture": ["custom_pipeline.py", str(run), "assets/pocket"],
            "PyTorch's gradients of the joint loss": ["joint_gradient.py", "assets/pocket"],
            "pyarrow, duckdb and datasets read the shards": ["shards.py", "data/pocket", "--models", "assets/pocket"],
            "shards in S3 are those on the disk": ["object_store.py", "data/pocket"],
            "Chromium shows and prints the report": ["report_page.py", str(run)],
            "Chromium uses the editor's page": ["editor_page.py", str(run)],
            "axe finds no barrier on the page": ["editor_page.py", str(run), "--axe"],
            "schemathesis asks the page's interface": ["editor_api.py", str(run)],
            "20 sessions share the page": ["editor_load.py", str(run)],
            "models of three diffusers, in every layout": ["model_layouts.py"],
            "csv reads FindingEmo's annotations alike": ["findingemo.py"],
        }
        codes = [check(name, command) for name, command in checks.items()]
    passed, skipped = codes.count(0), codes.count(SKIPPED)
    failed = len(codes) - passed - skipped
    print(f"peers: {passed} passed, {skipped} skipped, {failed} failed")
    sys.exit(bool(failed))


def check(name, command):
    started = time.monotonic()
    code = subprocess.run([sys.executable, str(HERE / command[0]), *command[1:]], cwd=ROOT).returncode
    word = {0: "ok     ", SKIPPED: "SKIPPED"}.get(code, "FAILED ")
    print(f"{word} {name} ({time.monotonic() - started:.0f} s)", flush=True)
    return code


if __name__ == "__main__":
    main()
