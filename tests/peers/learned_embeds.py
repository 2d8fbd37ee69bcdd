"""diffusers loads runs' learned embeddings by load_textual_inversion, and the vectors are in its text encoder.

    python tests/peers/learned_embeds.py RUN_DIR PIPELINE_DIR

RUN_DIR is a run of one emotion; runs of two and of all eight, one step each, are trained here on data/pocket. Where a run
has several emotions, each has a file of its own, since diffusers takes one token a file; one pipeline loads them all.
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
EMOTIONS = ["amusement", "anger", "awe", "contentment", "disgust", "excitement", "fear", "sadness"]


def main():
    run, folder = pathlib.Path(sys.argv[1]), sys.argv[2]
    check([run / "learned_embeds.safetensors"], folder, 1)
    with tempfile.TemporaryDirectory() as place:
        for emotions in (["sadness", "awe"], EMOTIONS):
            trained = train(emotions, pathlib.Path(place) / f"run-{len(emotions)}")
            files = [trained / "learned_embeds" / f"{emotion}.safetensors" for emotion in emotions]
            assert not (trained / "learned_embeds.safetensors").exists(), "diffusers refuses a file of several tokens"
            assert sorted(files) == sorted((trained / "learned_embeds").iterdir()), "files of other emotions"
            check(files, folder, len(emotions))


def train(emotions, output):
    """The tokens alone, one step: what is looked at is the form of what it leaves."""
    sets = [f"emotions=[{', '.join(emotions)}]", f"output_dir={output}", "train.max_train_steps=1", "delta=off", "loss.clip=0",
            "loss.reconstruction=0", "loss.alignment=0", "validation.validation_steps=0", "checkpoint.keep_best=null"]
    command = [ROOT / "target/release/trainer", "--config", "configs/pocket/all-emotions.yaml", "--offline"]
    done = subprocess.run([*command, *(part for one in sets for part in ("--set", one))], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


def check(files, folder, count):
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    before = len(pipeline.tokenizer)
    learned = {}
    for path in files:
        pipeline.load_textual_inversion(str(path))
        learned |= load_file(path)
    assert len(learned) == count, f"{count} emotions, and tokens {list(learned)}"
    table = pipeline.text_encoder.get_input_embeddings().weight.detach()
    for token, vectors in learned.items():
        names = [token] + [f"{token}_{k}" for k in range(1, len(vectors))]
        ids = pipeline.tokenizer.convert_tokens_to_ids(names)
        assert min(ids) >= before, f"{names} are not new tokens: {ids}"
        assert torch.equal(table[ids], vectors), f"{token}: other vectors than the file's"
        prompt = pipeline.maybe_convert_prompt(f"a person showing {token}", pipeline.tokenizer)
        encoded = pipeline.tokenizer(prompt)["input_ids"]
        assert [i for i in encoded if i in ids] == ids, f"{token} is not tokenised into its {len(ids)} vectors"
    print(f"{', '.join(f'{t} {tuple(v.shape)}' for t, v in learned.items())}")


if __name__ == "__main__":
    main()
