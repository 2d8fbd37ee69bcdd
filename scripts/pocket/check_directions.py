"""Does CLIP's way from text to text point where the pictures go? Cosines of text directions and of class means.

    python check_directions.py --data ../../assets/pocket/data/validation.parquet

Rows are texts, columns pictures, in the order of EXPRESSIONS; once from neutral, once from the mean of all nine.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import CLIPModel

from pictures import EXPRESSIONS, FAMILY, from_pixels, read_people
from train_clip import Texts, image_embeds, text_embeds, word_of


def directions(means: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
    """(expressions, p): unit vectors from an origin."""
    return F.normalize(means - origin, dim=-1)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clip", type=Path, default=FAMILY / "clip")
    args = parser.parse_args()
    model, people = CLIPModel.from_pretrained(args.clip, torch_dtype=torch.float32).eval(), read_people(args.data)
    seen = torch.cat([image_embeds(model, from_pixels(part)) for part in people.pixels.split(90)])
    images = torch.stack([seen[people.expressions == place].mean(0) for place in range(len(EXPRESSIONS))])
    texts = text_embeds(model, Texts(args.clip).ids([word_of(emotion) for emotion in EXPRESSIONS]))
    torch.set_printoptions(precision=2, sci_mode=False, linewidth=120)
    print(", ".join(EXPRESSIONS))
    print("from neutral:", directions(texts, texts[0]) @ directions(images, images[0]).T, sep="\n")
    print("from the mean:", directions(texts, texts.mean(0)) @ directions(images, images.mean(0)).T, sep="\n")


if __name__ == "__main__":
    main()
