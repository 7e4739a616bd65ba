from collections import Counter

import numpy as np
import torch

from lymphocytosis.encoders.augment import flip_and_turn


def dihedral(picture):
    """All eight flips and turns of a picture, by NumPy."""
    turned = [np.rot90(picture, k) for k in range(4)]
    return [p.tobytes() for t in turned for p in (t, t[:, ::-1])]


def drawn(n, upright_weight=1.0, seed=0):
    picture = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3)
    batch = torch.from_numpy(np.repeat(picture[None], n, axis=0))
    changed = flip_and_turn(batch, upright_weight, torch.Generator().manual_seed(seed))
    return picture, [p.numpy().tobytes() for p in changed]


def test_every_flip_and_turn_is_drawn_and_nothing_else():
    picture, changed = drawn(2000)
    counts = Counter(changed)
    # Sixteen equally likely draws make each of the eight forms twice.
    assert set(counts) == set(dihedral(picture))
    assert all(abs(count - 250) < 5 * np.sqrt(250 * 7 / 8) for count in counts.values())


def test_upright_is_drawn_as_often_as_its_weight_says():
    _, changed = drawn(4000, upright_weight=3)
    picture, _ = drawn(1)
    # No turn (of weight 3 in 6) with any flips, or a half turn (1 in 6) with any flips, keep rows
    # as rows; quarter turns (2 in 6) do not.
    as_rows = {p.tobytes() for t in (picture, picture[::-1]) for p in (t, t[:, ::-1])}
    share = sum(form in as_rows for form in changed) / len(changed)
    assert abs(share - 4 / 6) < 5 * np.sqrt(2 / 9 / 4000)


def test_same_seed_same_draws():
    assert drawn(50, seed=3)[1] == drawn(50, seed=3)[1]
    assert drawn(50, seed=3)[1] != drawn(50, seed=4)[1]
