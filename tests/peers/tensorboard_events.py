"""TensorBoard (from pip) reads a run's events: scalars equal to metrics.jsonl, a picture grid, histograms of what is
learned, the config as text and as hparams.

    python tests/peers/tensorboard_events.py RUN_DIR
"""
import io
import json
import math
import pathlib
import sys

import numpy as np
from PIL import Image
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

SIZES = {"scalars": 0, "images": 0, "tensors": 0, "histograms": 0}


def main():
    run = pathlib.Path(sys.argv[1])
    events = EventAccumulator(str(run / "logs"), size_guidance=SIZES)
    events.Reload()
    tags = events.Tags()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    check_scalars(events, tags["scalars"], lines)
    check_pictures(events, tags["images"])
    check_config(events, tags["tensors"])
    check_histograms(events, tags["histograms"], run)
    check_hparams(events, run)
    print(f"{len(tags['scalars'])} scalars over {len(lines)} steps, {len(tags['images'])} pictures, "
          f"{len(tags['histograms'])} histograms, the config as text and as hparams")


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


def check_histograms(events, tags, run):
    """The last one's moments are those of the checkpoint's tensors."""
    newest = max(run.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    assert "tokens/sadness" in tags and any(tag.startswith("delta/") for tag in tags), tags
    for tag in tags:
        group, name = tag.split("/", 1)
        values, found = load_file(newest / f"{group}.safetensors")[name].astype(float), events.Histograms(tag)[-1]
        assert found.step == int(newest.name.split("-")[1]), tag
        histogram = found.histogram_value
        assert sum(histogram.bucket) == histogram.num == values.size, tag
        assert histogram.bucket_limit[-1] >= values.max() and np.all(np.diff(histogram.bucket_limit) > 0), tag
        expected = [values.min(), values.max(), values.sum(), (values**2).sum()]
        assert np.allclose([histogram.min, histogram.max, histogram.sum, histogram.sum_squares], expected, rtol=1e-5, atol=1e-5), tag


def check_hparams(events, run):
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    info = HParamsPluginData.FromString(content).session_start_info
    assert info.group_name == str(run), info.group_name
    assert info.hparams["train.seed"].number_value == 0.0 and info.hparams["edit.process"].string_value == "asymmetric"
    assert info.hparams["delta.condition_on_token"].HasField("bool_value")


if __name__ == "__main__":
    main()
