"""The ablation: what each choice of the method is worth on the embedded model family, three seeds each.

    python scripts/ablation.py                        (make ablation; after make data)
    python scripts/ablation.py --only trajectory      one group of choices
    python scripts/ablation.py --table                the table alone, from what is there

Every variant is BASE with one change, or with several to show what they do together; the last ones are what
configs/pocket/<emotion>.yaml says. All are trained and scored by the programs users run. A run that is finished is not
made again, so the script may be stopped at any time. It writes docs/ablation.md. Standard library only.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STRENGTHS = [0.5, 1.0]
EQUAL_LPIPS = 0.12

# What is varied: the method as Asyrp and textual inversion put side by side would have it.
# What the recipe has by default today is set back: the table began before.
BASE = {
    "edit.condition": "both",
    "edit.trajectory": "edited",
    "edit.t_edit": "350",
    "edit.guidance_scale": "1",
    "edit.mask": "off",
    "loss.clip": "1.0",
    "loss.reconstruction": "0.6",
    "loss.alignment": "0.0",
    "loss.delta_denoising": "0.0",
    "loss.min_snr_gamma": "null",
}
DECODER_SOURCE = {"edit.condition": "decoder", "edit.trajectory": "source"}
# (group, variant, what is laid over BASE). BASE is the table's first row.
VARIANTS = [
    ("trajectory", "source", {"edit.trajectory": "source"}),
    ("condition", "decoder", {"edit.condition": "decoder"}),
    ("condition+trajectory", "decoder+source", DECODER_SOURCE),
    ("directional", "linear", {"loss.directional": "linear"}),
    ("directional", "log", {"loss.directional": "log"}),
    ("process", "anchored", {"edit.process": "anchored"}),
    ("direction", "text", {"direction.kind": "text"}),
    ("direction", "prototype", {"direction.kind": "prototype"}),
    ("detail", "residual", {"edit.detail": "residual"}),
    ("detail", "none", {"edit.detail": "none"}),
    ("alignment", "0.1", {"loss.alignment": "0.1"}),
    ("reconstruction", "0.2", {"loss.reconstruction": "0.2"}),
    ("reconstruction", "2.0", {"loss.reconstruction": "2.0"}),
    ("preview", "full-vae", {"model.preview_decoder": "null"}),
    ("condition+trajectory+alignment", "decoder+source+0.1", {**DECODER_SOURCE, "loss.alignment": "0.1"}),
]
BASE_SAYS = {
    "trajectory": "edited",
    "condition": "both",
    "condition+trajectory": "both+edited",
    "directional": "target",
    "process": "asymmetric",
    "direction": "mixed",
    "detail": "gated",
    "alignment": "0",
    "reconstruction": "0.6",
    "preview": "tiny",
    "condition+trajectory+alignment": "both+edited+0",
}
# Choices that training does not see: the base run is scored again with another edit_config.json.
ONLY_EDITING = {"detail"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "runs/ablation")
    parser.add_argument("--table", action="store_true", help="only write docs/ablation.md from finished runs")
    parser.add_argument("--only", nargs="*", help="groups to run")
    parser.add_argument("--emotion", default="sadness")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=52, help="optimiser steps: two descents of 26 timesteps")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--images", type=int, default=24, help="held-out sources")
    return parser.parse_args()


def run(command, log):
    """Runs a program in the project's root; stops the script with the program's last words if it fails."""
    with log.open("w") as file:
        code = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        sys.exit(f"{' '.join(map(str, command))}\nexit code {code}:\n" + "\n".join(log.read_text().splitlines()[-5:]))


def overrides(changes):
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


def train(options, folder, seed, changes):
    settings = {
        "model.preview_decoder": "assets/pocket/preview_decoder",
        "train.seed": seed,
        "train.train_batch_size": options.batch,
        "train.micro_batch_size": options.batch,
        "train.max_train_steps": options.steps,
        "validation.validation_steps": 0,
        "output_dir": folder,
        **BASE,
        **changes,
    }
    recipe = f"configs/pocket/{options.emotion}.yaml"
    run([options.programs / "trainer", "--config", recipe, *overrides(settings)], folder.with_suffix(".train.log"))


def score(options, folder):
    """The report's rows of the joint run by strength, and that of no edit."""
    rows_file = folder / "rows.json"
    if rows_file.exists():
        return json.loads(rows_file.read_text())
    settings = {
        "emotion": options.emotion,
        "runs.0.run": folder,
        "strengths": STRENGTHS,
        "headline.strength": STRENGTHS[-1],
        "shuffled": "false",
        "sources.max_images": options.images,
        "bootstrap.samples": 100,
        "gates": "[]",
        "output_dir": folder / "report",
    }
    command = [options.programs / "evaluator", "--config", "configs/pocket/evaluate.yaml", *overrides(settings)]
    run(command, folder.with_suffix(".score.log"))
    (report,) = (folder / "report").glob("*/report.json")
    report = json.loads(report.read_text())
    points = [p for p in report["curves"]["joint"] if p["strength"] in STRENGTHS]
    rows = {"no_edit": report["methods"]["no_edit"], "joint": {str(p["strength"]): p for p in points}}
    rows_file.write_text(json.dumps(rows))
    shutil.rmtree(folder / "report")
    return rows


def with_changed_edit(source, folder, changes):
    """A copy of a finished run that edits otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("learned_embeds.safetensors", "h_delta.safetensors", "edit_config.json"):
        shutil.copy(source / name, folder / name)
    config = json.loads((folder / "edit_config.json").read_text())
    for key, value in changes.items():
        config["edit"][key.removeprefix("edit.")] = value
    (folder / "edit_config.json").write_text(json.dumps(config, indent=2))


def finished(folder):
    return (folder / "edit_config.json").exists()


def one(options, group, name, changes, seed):
    folder = options.out / f"{group}-{name}" / f"seed-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (folder / "rows.json").exists():
        return
    begun = time.monotonic()
    if not finished(folder):
        if group in ONLY_EDITING:
            with_changed_edit(options.out / "base-base" / f"seed-{seed}", folder, changes)
        else:
            train(options, folder, seed, changes)
    score(options, folder)
    print(f"{group} {name} seed {seed}: {time.monotonic() - begun:.0f} s", flush=True)


def at_equal_lpips(rows):
    """Emo-A where the curve through no edit and the strengths passes EQUAL_LPIPS, linear in between."""
    points = [(0.0, rows["no_edit"]["emo_a"])]
    points += [(rows["joint"][str(s)]["lpips"], rows["joint"][str(s)]["emo_a"]) for s in STRENGTHS]
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if x0 <= EQUAL_LPIPS <= x1:
            return y0 + (y1 - y0) * (EQUAL_LPIPS - x0) / (x1 - x0)
    return points[-1][1]


def spread(values, decimals):
    """The mean, and the standard deviation over seeds where there are several."""
    deviation = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{decimals}f}{deviation}"


def line(options, group, name, label):
    found = []
    for seed in range(options.seeds):
        file = options.out / f"{group}-{name}" / f"seed-{seed}" / "rows.json"
        if file.exists():
            found.append(json.loads(file.read_text()))
    if not found:
        return None
    of = lambda key, scale=1.0: [scale * rows["joint"]["1.0"][key] for rows in found]
    accuracy, equal = of("emo_a", 100.0), [100.0 * at_equal_lpips(rows) for rows in found]
    cells = [
        label,
        str(len(found)),
        spread(accuracy, 1),
        spread(of("emo_s"), 3),
        f"{statistics.mean(of('lpips')):.3f}",
        f"{statistics.mean(of('psnr')):.1f}",
        f"{statistics.mean(of('sharpness')):.2f}",
        spread(equal, 1),
    ]
    return "| " + " | ".join(cells) + " |"


def table(options):
    header = f"| choice | seeds | Emo-A % | Emo-S | LPIPS | PSNR dB | sharpness × | Emo-A % at LPIPS {EQUAL_LPIPS} |"
    lines = [header, "|---" * 8 + "|", line(options, "base", "base", "**base**: both, edited, no alignment")]
    for group, name, _ in VARIANTS:
        lines.append(line(options, group, name, f"{group}: {BASE_SAYS[group]} → **{name}**"))
    return "\n".join(filter(None, lines))


def write_table(options):
    """Replaces what lies between the markers of docs/ablation.md."""
    page = ROOT / "docs/ablation.md"
    begin, end = "<!-- table -->\n", "<!-- end -->"
    text = page.read_text()
    head, rest = text.split(begin)
    tail = rest[rest.index(end):]
    page.write_text(head + begin + table(options) + "\n" + tail)


def main():
    options = arguments()
    if not options.table:
        for seed in range(options.seeds):
            one(options, "base", "base", {}, seed)
            for group, name, changes in VARIANTS:
                if options.only is None or group in options.only:
                    one(options, group, name, changes, seed)
    write_table(options)


if __name__ == "__main__":
    main()
