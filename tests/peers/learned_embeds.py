"""diffusers loads a run's learned_embeds.safetensors by load_textual_inversion, and the vectors are in its text encoder.

    python tests/peers/learned_embeds.py RUN_DIR PIPELINE_DIR
"""
import pathlib
import sys

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file


def main():
    run, folder = pathlib.Path(sys.argv[1]), sys.argv[2]
    path = run / "learned_embeds.safetensors"
    learned = load_file(path)
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    before = len(pipeline.tokenizer)
    pipeline.load_textual_inversion(str(path))
    table = pipeline.text_encoder.get_input_embeddings().weight.detach()
    for token, vectors in learned.items():
        names = [token] + [f"{token}_{k}" for k in range(1, len(vectors))]
        ids = pipeline.tokenizer.convert_tokens_to_ids(names)
        assert min(ids) >= before, f"{names} are not new tokens: {ids}"
        assert torch.equal(table[ids], vectors), f"{token}: other vectors than the file's"
        prompt = pipeline.maybe_convert_prompt(f"an emoji evoking {token}", pipeline.tokenizer)
        encoded = pipeline.tokenizer(prompt)["input_ids"]
        assert [i for i in encoded if i in ids] == ids, f"{token} is not tokenised into its {len(ids)} vectors"
    print(f"{', '.join(f'{t} {tuple(v.shape)}' for t, v in learned.items())}")


if __name__ == "__main__":
    main()
