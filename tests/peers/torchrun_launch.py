"""torchrun (torch 2.11) launches two ranks of the trainer as it is, and the run's files are there afterwards.

    python tests/peers/torchrun_launch.py OUTPUT_DIR STEPS
"""
import pathlib
import subprocess
import sys


def main():
    output, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    command = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--nproc-per-node", "2", "--master-port", "29511",
               "target/release/trainer", "--config", "configs/pocket/sadness.yaml"]
    for setting in (f"train.max_train_steps={steps}", "train.train_batch_size=2", "edit.num_inversion_steps=6",
                    f"validation.validation_steps={steps}", f"watch.histogram_steps={steps}", "validation.num_validation_images=2",
                    f"output_dir={output}"):
        command += ["--set", setting]
    done = subprocess.run(command)
    assert done.returncode == 0, f"torchrun ended with {done.returncode}"
    for name in ("edit_config.json", "learned_embeds.safetensors", "h_delta.safetensors", "metrics.jsonl"):
        assert (output / name).stat().st_size > 0, f"{name} is missing or empty"
    lines = (output / "metrics.jsonl").read_text().splitlines()
    assert lines, "metrics.jsonl holds no step"


if __name__ == "__main__":
    main()
