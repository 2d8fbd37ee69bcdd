"""Converts a published emotion classifier to the folder that the evaluator reads: config.json, model.safetensors.

    python scripts/convert_classifier.py emoedit 2024-02-23-best.pth --output classifiers/emoedit
    python scripts/convert_classifier.py emogen time_2023-11-12_03-29-best.pth --output classifiers/emogen
    python scripts/convert_classifier.py resnet emo_predictor.pt --labels amusement anger awe contentment disgust \\
        excitement fear sadness --output classifiers/emoeditor

Needs torch and safetensors. Pickles are read with weights_only, which runs nothing that is in them.

emoedit   EmoEdit (Yang et al. 2025): CLIP ViT-B/32's image embedding → 512-256-8, tensors hidden.*, fc.*
emogen    EmoGen (Yang et al. 2024): CLIP ViT-L/14's image embedding → 8, tensors fc.*
resnet    torchvision's resnet18 or resnet50 with eight classes, such as EmoEditor's (Lin et al. 2025); --labels gives the
          classes in the order of its last layer, --normalize imagenet says that it was trained on normalised images

Both CLIP classifiers take the embedding before normalisation and give the classes in EmoSet's order. --clip names
another CLIP than the published one.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

EMOSET = ["amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness"]
CLIPS = {"emoedit": "openai/clip-vit-base-patch32", "emogen": "openai/clip-vit-large-patch14"}
LAYERS = {"emoedit": ["hidden", "fc"], "emogen": ["fc"]}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
AS_THEY_ARE = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def read(path):
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    return {name.removeprefix("module."): value for name, value in state.items()}


def clip_classifier(kind, state, clip):
    """The layers of a Sequential of Linear, ReLU, Dropout, …: numbered 0, 3, 6."""
    names = LAYERS[kind]
    expected = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    if set(state) != expected:
        raise SystemExit(f"{kind}: expected the tensors {sorted(expected)}, found {sorted(state)[:8]}")
    tensors = {f"head.{3 * k}.{part}": state[f"{name}.{part}"] for k, name in enumerate(names) for part in ("weight", "bias")}
    widths = [state[f"{names[0]}.weight"].shape[1]] + [state[f"{name}.weight"].shape[0] for name in names]
    config = {"architecture": "clip_mlp", "labels": EMOSET, "clip": {"name": clip or CLIPS[kind]}, "normalize": False,
              "head": widths, "temperature": 1.0, "takes_part_in_losses": False}  # fmt: skip
    return tensors, config


def resnet(state, labels, normalize):
    tensors = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    depth = 50 if "layer1.0.conv3.weight" in tensors else 18
    if sorted(labels or []) != sorted(EMOSET):
        raise SystemExit("resnet: --labels must name each of the eight emotions once, in the last layer's order")
    config = {"architecture": f"resnet{depth}", "labels": labels, "input_size": 224, "temperature": 1.0,
              **(IMAGENET if normalize == "imagenet" else AS_THEY_ARE), "takes_part_in_losses": False}  # fmt: skip
    return tensors, config


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["emoedit", "emogen", "resnet"])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--clip", help="folder or hub id of the CLIP that embeds")
    parser.add_argument("--labels", nargs=8, metavar="EMOTION")
    parser.add_argument("--normalize", choices=["none", "imagenet"], default="none")
    args = parser.parse_args()
    state = read(args.weights)
    if args.kind == "resnet":
        tensors, config = resnet(state, args.labels, args.normalize)
    else:
        tensors, config = clip_classifier(args.kind, state, args.clip)
    args.output.mkdir(parents=True, exist_ok=True)
    save_file({name: value.float().contiguous() for name, value in tensors.items()}, args.output / "model.safetensors")
    (args.output / "config.json").write_text(json.dumps(config, indent=1) + "\n")


if __name__ == "__main__":
    main()
