"""Our programs under other people's launchers: real Slurm, torchrun with two nodes, and the variables Kubeflow sets.

    python tests/peers/launchers.py slurm|torchrun|kubeflow [trainer|shard]     (from the repository's root, after `make data`)

Each starts two processes, on one machine that plays two nodes where there are nodes: two steps of the demo's recipe, whose
learned tensors must be, byte for byte, those of our own `--nproc-per-node 2`; or `dataloader shard`, whose shards must. Slurm is Debian's slurm-wlm and munge, configured and
started here as root in a temporary folder; where they are not installed the check says so and exits with 77.
"""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target/release"
SKIPPED = 77


def main():
    how, what = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "trainer"
    program, names = {"trainer": (trainer, ["*.safetensors"]), "shard": (shard, ["*.parquet", "manifest.json"])}[what]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run([*program(folder / "own"), "--nproc-per-node", "2"], cwd=ROOT, check=True, env=environment())
        {"slurm": slurm, "torchrun": torchrun, "kubeflow": kubeflow}[how](folder, program(folder / how))
        files = sorted(file.name for name in names for file in (folder / "own").glob(name))
        assert len(files) > 1, files
        for name in files:
            assert (folder / how / name).read_bytes() == (folder / "own" / name).read_bytes(), f"{how}: {name} differs"
    print(f"{how}, {what}: {len(files)} files of our own launcher, byte for byte")


def shard(output):
    """Four faces, a shard each."""
    sets = {
        "source.path": "tests/fixtures/metrics/faces",
        "resolution": 64,
        "vae": "assets/pocket/vae",
        "clip": "assets/pocket/clip",
        "rows_per_shard": 1,
        "output": output,
    }
    command = [str(PROGRAMS / "dataloader"), "shard", "--config", "configs/data/folder.yaml"]
    return [*command, *(f"--set={k}={v}" for k, v in sets.items())]


def trainer(output):
    sets = {
        "train.max_train_steps": 2,
        "train.train_batch_size": 2,
        "train.micro_batch_size": 2,
        "train.num_threads": 1,  # sums round by the number of threads
        "data.sources.limit": 8,
        "edit.num_inversion_steps": 8,
        "validation.validation_steps": 0,
        "output_dir": output,
    }
    command = [str(PROGRAMS / "trainer"), "--config", "configs/pocket/sadness.yaml"]
    return [*command, *(f"--set={k}={v}" for k, v in sets.items())]


def environment(**more):
    """Ours, without what another launcher may have left, and one thread a process."""
    foreign = ("SLURM_", "PET_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def together(commands):
    """Runs (command, environment) pairs at once; all must end with 0."""
    running = [subprocess.Popen(command, cwd=ROOT, env=env) for command, env in commands]
    codes = [process.wait() for process in running]
    assert codes == [0] * len(codes), codes


def torchrun(folder, command):
    """Two agents, as on two machines, which meet at a port of this one."""
    agent = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nnodes", "2", "--nproc-per-node", "1",
             "--master-addr", "127.0.0.1", "--master-port", str(free_port())]  # fmt: skip
    together([([*agent, "--node-rank", str(rank), *command], environment()) for rank in range(2)])


def kubeflow(folder, command):
    """The container's variables as Kubeflow Trainer v2's torch plugin sets them for two nodes."""
    job = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(free_port())}
    together([(command, environment(**job, PET_NODE_RANK=str(rank))) for rank in range(2)])


def slurm(folder, command):
    missing = [name for name in ("munged", "slurmctld", "slurmd", "srun") if shutil.which(name, path=path()) is None]
    if missing or os.geteuid() != 0:
        print(f"skipped: {', '.join(missing) or 'root'} missing; as root: apt-get install slurm-wlm munge")
        sys.exit(SKIPPED)
    with cluster(folder) as config:
        env = environment(SLURM_CONF=str(config), PATH=path())
        task = ["srun", "--ntasks", "2", "--ntasks-per-node", "2", "--chdir", str(ROOT), *command]
        subprocess.run(task, env=env, check=True, timeout=300)


@contextlib.contextmanager
def cluster(folder):
    """One node's Slurm: munged, slurmctld, slurmd; ended on the way out."""
    where, host, cpus = folder / "slurm", socket.gethostname().split(".")[0], os.cpu_count()
    for name in ("state", "spool"):
        (where / name).mkdir(parents=True)
    control, node = free_port(), free_port()
    config = where / "slurm.conf"
    config.write_text(f"""
ClusterName=peers
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={where}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={where}/state
SlurmdSpoolDir={where}/spool
SlurmctldPidFile={where}/slurmctld.pid
SlurmdPidFile={where}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
""")
    key = where / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    where.chmod(0o755)
    env = environment(SLURM_CONF=str(config), PATH=path())
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={where}/munge.socket",
         f"--pid-file={where}/munged.pid", f"--log-file={where}/munged.log", f"--seed-file={where}/munge.seed"],
        ["slurmctld", "-D", "-i", "-f", str(config), "-L", f"{where}/slurmctld.log"],
        ["slurmd", "-D", "-f", str(config), "-L", f"{where}/slurmd.log", "-N", host],
    ]  # fmt: skip
    running = []
    try:
        for daemon in daemons:
            running.append(subprocess.Popen(daemon, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(2)
        for _ in range(30):
            ready = subprocess.run(["sinfo", "-h", "-o", "%T"], env=env, capture_output=True, text=True)
            if "idle" in ready.stdout:
                break
            time.sleep(1)
        else:
            logs = "\n".join(f"{log.name}:\n{log.read_text()[-1500:]}" for log in where.glob("*.log"))
            sys.exit(f"slurm: the node does not come up\n{logs}")
        yield config
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()


def path():
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    main()
