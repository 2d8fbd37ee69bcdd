"""TensorBoard (from pip) reads a run's events: scalars equal to metrics.jsonl, a picture grid, the config as text.

    python tests/peers/tensorboard_events.py RUN_DIR
"""
import io
import json
import math
import pathlib
import sys

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SIZES = {"scalars": 0, "images": 0, "tensors": 0}


def main():
    run = pathlib.Path(sys.argv[1])
    events = EventAccumulator(str(run / "logs"), size_guidance=SIZES)
    events.Reload()
    tags = events.Tags()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    check_scalars(events, tags["scalars"], lines)
    check_pictures(events, tags["images"])
    check_config(events, tags["tensors"])
    print(f"{len(tags['scalars'])} scalars over {len(lines)} steps, {len(tags['images'])} pictures, the config as text")


def check_scalars(events, tags, lines):
    for tag in ("loss/total", "loss/direction", "loss/reconstruction", "loss/denoising", "lr/tokens", "lr/delta",
                "norm/grad", "perf/images_per_s", "perf/data_wait_pct", "validation/lpips"):
        assert tag in tags, f"{tag} is missing; there are {tags}"
    for tag in [key for key in lines[0] if key != "step"]:
        found = {event.step: event.value for event in events.Scalars(tag)}
        for line in lines:
            assert math.isclose(found[line["step"]], line[tag], rel_tol=1e-5, abs_tol=1e-6), (tag, line["step"])


def check_pictures(events, tags):
    assert any(tag.startswith("samples/") for tag in tags), f"no picture; there are {tags}"
    for tag in tags:
        for event in events.Images(tag):
            width, height = Image.open(io.BytesIO(event.encoded_image_string)).size
            assert (width, height) == (event.width, event.height), tag
            assert width % 3 == 0, f"{tag}: three columns"


def check_config(events, tags):
    assert "config/text_summary" in tags, f"no text; there are {tags}"
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| train.max_train_steps |" in text and "| output_dir |" in text, text


if __name__ == "__main__":
    main()
