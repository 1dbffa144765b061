"""What rows are read as, on host and device, against a plain decoder; and that a device is asked for nothing."""

from collections import Counter

import numpy as np
import pytest
import torch

from pipeline.logit_store.fields import StoredRows, put_ids, put_sorted_ids
from pipeline.logit_store.random_draws import RandomDraws, random_draw_rows
from pipeline.logit_store.targets import TeacherTargets
from pipeline.logit_store.top_k import TopK, top_k_rows
from pipeline.logit_store.top_k_tail_draws import TopKTailDraws, tail_draw_rows

VOCABULARIES = [200, 5_000, 151_936, 2**18 + 1]  # ids of 8, 16, 18 and 19 bits
FIELDS = tuple(TeacherTargets.__dataclass_fields__)
TEMPERATURE, COLUMN = 3.0, 1
# Tokens that are drawn, of D free ones, for each of D draws.
DRAWN = {
    "each once": np.arange,
    "some again": lambda draws: np.sort(np.arange(draws) ** 2 % draws),
    "one alone": lambda draws: np.full(draws, draws - 1),
}


def on_the_host(rows):
    return StoredRows(rows)


def as_on_a_gpu(rows, device="cpu"):
    """Rows as a GPU has them, on a device that can compute here."""
    return StoredRows(rows, torch.from_numpy(rows.view(np.uint8)).view(len(rows), rows.itemsize).to(device))


def some_ids(tokens, count, vocabulary):
    """Ids, the lowest and the highest among them, each once in a row."""
    rng = np.random.default_rng(0)
    ids = np.stack([rng.choice(np.arange(1, vocabulary - 1), count - 2, replace=False) for _ in range(tokens)])
    return np.concatenate([np.full((tokens, 1), vocabulary - 1), ids, np.zeros((tokens, 1), np.int64)], axis=1)


def filled(rows):
    """Everything but token ids."""
    rng = np.random.default_rng(1)
    for name in rows.dtype.names:
        if rows.dtype[name].base.kind == "f":
            rows[name] = -5 * rng.random(rows[name].shape)
    if "offsets" in rows.dtype.names:
        rows["offsets"] = -np.sort(-rows["offsets"], axis=1)
    return rows


def rows_of_top_k(tokens, vocabulary, k=12):
    rows = filled(np.zeros(tokens, top_k_rows(k, 2, vocabulary)))
    put_ids(rows, torch.from_numpy(some_ids(tokens, k, vocabulary)))
    return rows


def rows_of_tail_draws(tokens, vocabulary, drawn, k=12, draws=83):
    rows = filled(np.zeros(tokens, tail_draw_rows(k, draws, [COLUMN], 2, vocabulary)))
    ids = np.random.default_rng(2).permuted(some_ids(tokens, k + draws, vocabulary), axis=1)
    put_ids(rows, torch.from_numpy(ids[:, :k]))
    put_sorted_ids(rows, np.sort(ids[:, k:][:, DRAWN[drawn](draws)], axis=1), f"drawn_{COLUMN}")
    return rows


def rows_of_draws(tokens, vocabulary, draws, slots=9):
    rows = filled(np.zeros(tokens, random_draw_rows(slots, draws, 2, vocabulary)))
    ids = [some_ids(tokens, slots, vocabulary), some_ids(tokens, slots, vocabulary)[:, ::-1]]
    put_ids(rows, torch.from_numpy(np.stack(ids, axis=1)))
    rows["counts"] = np.random.default_rng(3).multinomial(draws, [1 / slots] * slots, size=(tokens, 2))
    return rows


def bits(packed):
    return [bit == "1" for byte in packed for bit in f"{byte:08b}"]


def ids_by_definition(row):
    ids = [int(i) for i in row["token_ids"].flat]
    if "token_ids_above" in row.dtype.names:
        for bit, plane in enumerate(row["token_ids_above"]):
            ids = [i + one * 2 ** (16 + bit) for i, one in zip(ids, bits(plane), strict=False)]
    return np.array(ids).reshape(row["token_ids"].shape).tolist()


def draws_by_definition(row):
    planes = row[f"drawn_{COLUMN}_low"] if f"drawn_{COLUMN}_low" in row.dtype.names else []
    ones = [place for place, one in enumerate(bits(row[f"drawn_{COLUMN}_high"])) if one]
    ids = [(place - before) * 2 ** len(planes) for before, place in enumerate(ones)]
    for bit, plane in enumerate(planes):
        ids = [i + one * 2**bit for i, one in zip(ids, bits(plane), strict=False)]
    return ids


def merged_by_definition(drawn, head):
    """Each token where it was drawn first, with how often; in the place of one drawn again, the next that is free."""
    free = (i for i in range(len(head) + len(drawn)) if i not in {*head, *drawn})
    seen = Counter()
    for token in drawn:
        seen[token] += 1
        yield (token, drawn.count(token)) if seen[token] == 1 else (next(free), 0)


def top_k_by_definition(rows):
    log_tail = torch.tensor(rows["log_tails"][:, COLUMN].tolist())
    softened = torch.log_softmax(torch.tensor(rows["offsets"].astype(np.float32)) / TEMPERATURE, dim=1)
    ids = torch.tensor([ids_by_definition(row) for row in rows])
    log_probs = softened + torch.log(-torch.expm1(log_tail))[:, None]
    return TeacherTargets(ids, log_probs, log_tail, torch.tensor(rows["log_prob"].tolist()))


def tail_draws_by_definition(rows):
    head = top_k_by_definition(rows)
    pairs = [[*merged_by_definition(draws_by_definition(row), ids_by_definition(row))] for row in rows]
    ids = torch.tensor([[token for token, _ in row] for row in pairs])
    shares = torch.tensor([[count / len(row) for _, count in row] for row in pairs])
    return TeacherTargets(
        torch.cat([head.token_ids_NK, ids], 1),
        torch.cat([head.log_probs_NK, shares.log() + head.log_tail_N[:, None]], 1),
        torch.full((len(rows),), -torch.inf),
        head.log_prob_N,
    )


def draws_alone_by_definition(rows):
    counts = torch.tensor(rows["counts"][:, COLUMN].astype(np.float32))
    return TeacherTargets(
        torch.tensor([ids_by_definition(row)[COLUMN] for row in rows]),
        torch.log(counts / counts.sum(1, keepdim=True)),
        torch.full((len(rows),), -torch.inf),
        torch.tensor(rows["log_prob"].tolist()),
    )


def check(scheme, rows, expected):
    """Every bit, and shapes on a device whose tensors have no contents: it raises where the host would wait for any."""
    for wrap in (on_the_host, as_on_a_gpu):
        found = scheme.restore(wrap(rows), COLUMN, TEMPERATURE)
        for name in FIELDS:
            a, b = getattr(found, name), getattr(expected, name)
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.numpy().tobytes() == b.numpy().tobytes(), (wrap, name)
    found = scheme.restore(as_on_a_gpu(rows, "meta"), COLUMN, TEMPERATURE)
    for name in FIELDS:
        assert getattr(found, name).is_meta
        assert getattr(found, name).shape == getattr(expected, name).shape


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("tokens", [1, 40])
def test_the_top_k_come_back_to_the_bit(tokens, vocabulary):
    rows = rows_of_top_k(tokens, vocabulary)
    check(TopK, rows, top_k_by_definition(rows))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("tokens", [1, 40])
@pytest.mark.parametrize("drawn", DRAWN)
def test_draws_from_the_tail_come_back_to_the_bit(tokens, vocabulary, drawn):
    rows = rows_of_tail_draws(tokens, vocabulary, drawn)
    check(TopKTailDraws, rows, tail_draws_by_definition(rows))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("tokens", [1, 40])
@pytest.mark.parametrize("draws", [50, 40_000])  # counts of 8 and of 16 bits, above 2^15 too
def test_draws_from_the_whole_come_back_to_the_bit(tokens, vocabulary, draws):
    rows = rows_of_draws(tokens, vocabulary, draws)
    if draws > 2**15:
        rows["counts"][0, COLUMN] = [draws] + [0] * 8
    check(RandomDraws, rows, draws_alone_by_definition(rows))
