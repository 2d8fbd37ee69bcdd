"""Train CLIP's byte-level BPE (vocab.json, merges.txt) on the captions and common words.

python train_tokenizer.py --data people/train.parquet
"""

import argparse
import collections
import json
import re
from pathlib import Path

import pyarrow.parquet as pq

from pictures import FAMILY
from training import save_json

WORDS = Path(__file__).with_name("common_words.txt")
PATTERN = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.IGNORECASE)
START, END = "<|startoftext|>", "<|endoftext|>"


def printable_bytes() -> dict:
    """GPT-2's map from bytes to printable characters."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("\xa1"), ord("\xac") + 1), *range(ord("\xae"), ord("\xff") + 1)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {byte: chr(256 + i) for i, byte in enumerate(moved)}


def count_words(captions: list[str]) -> collections.Counter:
    """How often each word occurs in what the encoders will read; common words of English beside."""
    counts = collections.Counter(word.lower() for text in captions for word in PATTERN.findall(text))
    for word in WORDS.read_text().split():
        counts[word.lower()] += 12
    return counts


def joined(pieces: tuple, left: str, right: str) -> tuple:
    """A word with one pair of neighbours merged."""
    result, i = [], 0
    while i < len(pieces):
        pair = i + 1 < len(pieces) and pieces[i] == left and pieces[i + 1] == right
        result.append(left + right if pair else pieces[i])
        i += 2 if pair else 1
    return tuple(result)


def learn(counts: collections.Counter, size: int):
    """Byte pair encoding, Sennrich et al. 2016: (vocabulary, merges)."""
    letters = printable_bytes()
    words = {}
    for word in counts:
        pieces = [letters[byte] for byte in word.encode()]
        words[word] = tuple(pieces[:-1]) + (pieces[-1] + "</w>",)
    vocabulary = list(letters.values()) + [letter + "</w>" for letter in letters.values()]
    merges = []
    while len(vocabulary) < size - 2:
        pairs = collections.Counter()
        for word, pieces in words.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        (left, right), times = max(pairs.items(), key=lambda item: (item[1], item[0]))
        if times < 2:
            break
        merges.append((left, right))
        vocabulary.append(left + right)
        words = {word: joined(pieces, left, right) if left in pieces else pieces for word, pieces in words.items()}
    return list(dict.fromkeys(vocabulary)) + [START, END], merges


def added_token(text: str, typed: bool) -> dict:
    """How transformers writes a special token."""
    token = dict(content=text, lstrip=False, normalized=True, rstrip=False, single_word=False)
    return token | {"__type": "AddedToken"} if typed else token


def save(folder: Path, vocabulary: list, merges: list, max_length: int) -> None:
    """The four files of a CLIPTokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(vocabulary)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    special = dict(bos_token=START, eos_token=END, unk_token=END)
    save_json(
        folder / "special_tokens_map.json", {k: added_token(v, False) for k, v in special.items()} | {"pad_token": END}
    )
    save_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            **{k: added_token(v, True) for k, v in special.items()},
            "pad_token": END,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": max_length,
            "tokenizer_class": "CLIPTokenizer",
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="training people, Parquet")
    parser.add_argument("--out", type=Path, default=FAMILY / "tokenizer")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--max-length", type=int, default=64)
    args = parser.parse_args()
    table = pq.read_table(args.data, columns=["caption", "caption_clip"])
    captions = [text for name in table.column_names for text in table[name].to_pylist()]
    vocabulary, merges = learn(count_words(captions), args.size)
    save(args.out, vocabulary, merges, args.max_length)

    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(args.out)
    lengths = [len(tokenizer(text)["input_ids"]) for text in captions[::20]]
    print(f"{len(vocabulary)} entries; captions take {sum(lengths) / len(lengths):.1f} tokens, at most {max(lengths)}")


if __name__ == "__main__":
    main()
