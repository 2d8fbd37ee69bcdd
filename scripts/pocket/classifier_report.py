"""How good a classifier's logits are: accuracy, per class, confusion, calibration, by style and kind."""

import torch

from captions import STYLES
from emoji_labels import EMOTIONS


def right(logits: torch.Tensor, rows: list) -> torch.Tensor:
    """1 where the most likely class is among a picture's emotions."""
    return torch.tensor([float(EMOTIONS[i] in row["emotions"]) for i, row in zip(logits.argmax(1).tolist(), rows)])


def share(hits: torch.Tensor, chosen: list) -> dict:
    """Accuracy and count over a part of the pictures."""
    part = hits[torch.tensor(chosen, dtype=torch.bool)]
    return dict(accuracy=round(part.mean().item(), 4) if len(part) else None, n=len(part))


def calibration_error(probabilities: torch.Tensor, hits: torch.Tensor, bins: int = 8) -> float:
    """Expected calibration error of the most likely class (Guo et al. 2017), equal-width bins."""
    sure, total = probabilities.amax(1), 0.0
    for low in range(bins):
        inside = (sure > low / bins) & (sure <= (low + 1) / bins)
        if inside.any():
            total += inside.float().mean().item() * abs(sure[inside].mean().item() - hits[inside].mean().item())
    return total


def confusion(logits: torch.Tensor, rows: list) -> list:
    """Rows: a picture's first emotion; columns: the most likely class."""
    table = torch.zeros(8, 8, dtype=torch.long)
    for guess, row in zip(logits.argmax(1).tolist(), rows):
        table[EMOTIONS.index(row["emotions"][0]), guess] += 1
    return table.tolist()


def by_base(hits: torch.Tensor, rows: list) -> float:
    """Accuracy averaged over base emoji instead of pictures."""
    found = {}
    for hit, row in zip(hits.tolist(), rows):
        found.setdefault(row["base"], []).append(hit)
    return sum(sum(v) / len(v) for v in found.values()) / max(1, len(found))


def report(logits: torch.Tensor, rows: list) -> dict:
    """Everything about a set of judged pictures."""
    hits, probabilities = right(logits, rows), logits.softmax(1)
    face = [row["kind"] == "face" for row in rows]
    family = [row["set"] in STYLES for row in rows]
    faces = [i for i, is_face in enumerate(face) if is_face]
    face_logits, face_rows = logits[faces], [rows[i] for i in faces]
    return dict(
        all=share(hits, [True] * len(rows)),
        faces=share(hits, face),
        family_styles=share(hits, family),
        family_faces=share(hits, [a and b for a, b in zip(face, family)]),
        face_bases=len({row["base"] for row in face_rows}),
        faces_by_base=round(by_base(hits[faces], face_rows), 4),
        faces_per_class={e: share(hits[faces], [row["emotions"][0] == e for row in face_rows]) for e in EMOTIONS},
        faces_confusion=confusion(face_logits, face_rows),
        all_confusion=confusion(logits, rows),
        faces_mean_confidence=round(probabilities[faces].amax(1).mean().item(), 4),
        faces_calibration_error=round(calibration_error(probabilities[faces], hits[faces]), 4),
    )
