"""Texts as tokens, the tasks of words and sentences, and what they are measured by."""

import gzip
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import unlabeled as ul
from unlabeled import registry
from unlabeled.augmentations import tokens as t
from unlabeled.augmentations.vocabulary import SPECIAL
from unlabeled.cli.main import main
from unlabeled.core import Batch
from unlabeled.data import open
from unlabeled.data.dataset import Samples
from unlabeled.data.readers import bpe, corpus, sentences, text
from unlabeled.encoders.base import build
from unlabeled.errors import Notice, UserError
from unlabeled.evaluation import language
from unlabeled.evaluation.metric import Subject
from unlabeled.evaluation.ngram import KneserNey, spelled
from unlabeled.modality import Text
from unlabeled.runs.export import export
from unlabeled.training.folder import record_data
from unlabeled.training.prepare import prepare

pytest.importorskip("tokenizers", reason="the extra `text` is not installed")
# The folder of these tests is told for what its files are taken.
pytestmark = pytest.mark.filterwarnings("ignore:of the text in:unlabeled.errors.Notice")
V = 300
# The texts of these tests are so alike that the watch over collapse rings.
ALIKE = pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")


def ids_of(n=6, length=20, seed=0):
    """Texts of several lengths, (n, length)."""
    torch.manual_seed(seed)
    ids = torch.randint(t.FIRST_WORD, V, (n, length))
    for row in range(n):
        ids[row, length - row :] = t.PAD
    return ids


def method_of(name, **options):
    torch.manual_seed(0)
    cls = registry.find("methods", name)
    options = cls.encoder_args | {"vocabulary": V, "width": 32, "layers": 2} | options
    return cls(build("text_transformer", 1, (4, 12), **options))


def batch_of(n=16, seed=0):
    torch.manual_seed(seed)
    ids = torch.randint(t.FIRST_WORD, V, (n, 4, 12))
    ids[..., 9:] = t.PAD
    ids[..., 8] = t.END
    return Batch(ids, torch.arange(n)), ids


def test_tokens_outside_the_vocabulary_are_unknown():
    every = torch.arange(corpus.MOST)
    assert torch.equal(t.to_vocabulary(every, corpus.MOST), every)
    known = t.to_vocabulary(every, V)
    assert torch.equal(known[:V], every[:V])
    assert (known[V:] == t.UNKNOWN).all()


def test_packing_keeps_order_and_drops_gaps():
    ids = torch.tensor([[0, 7, 0, 8, 9, 0], [6, 0, 0, 0, 0, 0]])
    assert t.pack_tokens(ids).tolist() == [[7, 8, 9], [6, 0, 0]]


def test_a_random_start_skips_the_same_share_of_every_text():
    """Catches short texts that are skipped whole, since others of the batch are long."""
    ids, lengths = torch.zeros(3, 40, dtype=torch.long), [40, 20, 6]
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = t.FIRST_WORD + torch.arange(length)
    seen = set()
    for seed in range(400):
        torch.manual_seed(seed)
        later = t.random_start(ids, 0.5)
        skipped = 40 - later.shape[1]
        for row, whole, length in zip(later, ids, lengths, strict=True):
            first = skipped * length // 40
            assert torch.equal(row[row != t.PAD], whole[first:length])
            assert first <= length / 2
        seen.add(skipped)
    assert seen == set(range(21))
    assert torch.equal(t.random_start(ids, 0.0), ids)


def test_hiding_is_berts_rule():
    """15 % of the words; of those 80 % masked, 10 % others, 10 % as they were; never a special."""
    torch.manual_seed(0)
    ids = torch.randint(t.FIRST_WORD, V, (400, 100))
    ids[:, ::10] = t.END
    ids[:, 95:] = t.PAD
    seen, chosen = t.mask_tokens(ids, V)
    words = ids >= t.FIRST_WORD
    assert not chosen[~words].any()
    assert torch.equal(seen[~chosen], ids[~chosen])
    assert (chosen.sum(1) == round(0.15 * int(words[0].sum()))).all()
    remaining, masked = (
        (seen == ids)[chosen].float().mean(),
        (seen == t.MASK)[chosen].float().mean(),
    )
    assert masked == pytest.approx(0.8, abs=0.02)
    assert remaining == pytest.approx(0.1, abs=0.02)
    assert (seen[chosen & (seen != t.MASK)] >= t.FIRST_WORD).all()
    again, _ = t.mask_tokens(ids, V)
    assert not torch.equal(seen, again)
    _, chosen = t.mask_tokens(torch.tensor([[7, 0], [0, 0]]), V)
    assert chosen.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("encoder", ["text_transformer", "text_lstm"])
@pytest.mark.parametrize("direction", ["causal", "bidirectional", "forward_backward"])
def test_an_encoder_sees_what_it_may(encoder, direction):
    """A changed token changes only states that may know it; padding changes none."""
    if (encoder, direction) == ("text_lstm", "bidirectional"):
        with pytest.raises(UserError, match="one direction"):
            build(encoder, 1, (1, 20), direction=direction)
        return
    options = {"layers": 2, "heads": 2} if encoder == "text_transformer" else {"layers": 1}
    net = build(encoder, 1, (1, 20), vocabulary=V, width=16, direction=direction, **options)
    net.eval()
    ids = ids_of(4)
    other = ids.clone()
    other[:, 9] = (other[:, 9] + 50) % (V - t.FIRST_WORD) + t.FIRST_WORD
    moved = (net.states(ids) - net.states(other)).abs().amax(2) > 1e-6  # (4, 21) with START
    before, after = moved[0, :10], moved[0, 10:]
    assert after.all()
    assert before.any() == (direction != "causal")
    longer = torch.cat([ids, torch.zeros_like(ids[:, :1])], 1)[:, :20]
    trimmed = net.features(ids[3:, :17])  # row 3 has 17 tokens
    torch.testing.assert_close(net.features(longer)[3:], trimmed, atol=1e-5, rtol=1e-4)
    if direction != "forward_backward":
        return
    left, right = net.left_and_right_states(ids)
    left2, right2 = net.left_and_right_states(other)
    assert torch.equal(left[:, :10], left2[:, :10])  # before the changed token, and at it
    torch.testing.assert_close(right[:, 9:17], right2[:, 9:17])  # at it, and after it
    assert not torch.allclose(left[:, 10], left2[:, 10])
    assert not torch.allclose(right[:, 8], right2[:, 8])


def test_the_mean_is_over_words_and_not_padding():
    net = build("text_transformer", 1, (1, 20), vocabulary=V, width=16, layers=1, heads=2).eval()
    ids = ids_of(3)
    expected = torch.stack([net.states(ids[i : i + 1, : 20 - i])[0, 1:].mean(0) for i in range(3)])
    torch.testing.assert_close(net.features(ids), expected, atol=1e-5, rtol=1e-4)
    assert torch.isfinite(net.features(torch.zeros(2, 3, dtype=torch.long))).all()
    first = build(
        "text_transformer", 1, (1, 20), vocabulary=V, width=16, layers=1, heads=2, pooling="first"
    ).eval()
    assert torch.equal(first.features(ids), first.states(ids)[:, 0])


def test_masked_words_ask_for_the_hidden_ones_alone():
    method = method_of("masked_lm").eval()
    seen, ids, chosen = method.views(batch_of()[0])
    log_p = method.lm_head(method.encoder.states(seen)[:, 1:], method.encoder).log_softmax(2)
    naive = [
        -log_p[i, j, ids[i, j]]
        for i in range(len(ids))
        for j in range(ids.shape[1])
        if chosen[i, j]
    ]
    assert method.loss((seen, ids, chosen)).item() == pytest.approx(
        torch.stack(naive).mean().item(), rel=1e-5
    )


@pytest.mark.parametrize("name", ["causal_lm", "bidirectional_lm"])
def test_surprise_is_of_each_word_and_never_sees_it(name):
    """log p of a token moves when another is asked for, and not when its neighbors' are read."""
    method = method_of(name).eval()
    ids = ids_of(4)
    before = method.negative_log_likelihood(ids)
    assert method.loss(ids).item() == pytest.approx(before[ids != 0].mean().item(), rel=1e-5)
    with torch.no_grad():
        states = (
            method.encoder.states(ids)[:, :-1]
            if name == "causal_lm"
            else torch.cat(method.encoder.left_and_right_states(ids), 2)
        )
        p = method.lm_head(states, method.encoder).softmax(2)
    other = ids.clone()
    other[:, 7] = 5
    assert torch.allclose(method.negative_log_likelihood(other)[0, 7], -p[0, 7, 5].log(), atol=1e-5)
    assert float(p.sum(2).mean()) == pytest.approx(1, abs=1e-5)


def test_masked_sentences_refuse_what_does_not_fit():
    """Catches an AssertionError and a RuntimeError of PyTorch."""
    cls = registry.find("methods", "masked_sentences")
    encoder = build("text_transformer", 1, (65, 4), vocabulary=V, width=8, layers=1, heads=2)
    with pytest.raises(UserError, match="width is 8, which 3 heads do not divide"):
        cls(encoder, heads=3)
    rows = torch.full((2, 65, 4), t.FIRST_WORD)
    method = cls(encoder)
    assert method.loss(method.views(Batch(rows[:, :64], torch.arange(2)))).isfinite()
    with pytest.raises(UserError, match="64 sentences at most, not 65"):
        method.views(Batch(rows, torch.arange(2)))


def test_next_sentence_and_order_are_what_they_say():
    batch, rows = batch_of(64)
    method = method_of("next_sentence")
    method.head.mlm_weight = 0.0
    ids, _, _, begins, follows = method.views(batch)
    halves = rows.flatten(1).view(64, 2, -1)
    for one, at, captions, (first, second) in zip(ids, begins, follows, halves, strict=True):
        a, b = (half[half != 0] for half in (first, second))
        assert at == len(a) + 1
        end = torch.tensor([t.END])
        assert torch.equal(one[: len(a) + 1], torch.cat([a, end]))
        assert torch.equal(one[len(a) + 1 :][: len(b)], b) == bool(captions)
    assert 0.3 < follows.float().mean() < 0.7
    method = method_of("sentence_order")
    method.head.mlm_weight = 0.0
    ids, _, _, begins = method.views(batch)
    for written, changed, at, (first, second) in zip(
        *ids.chunk(2), begins[:64], halves, strict=True
    ):
        a, b = (half[half != 0] for half in (first, second))
        assert at == len(a) + 1
        assert torch.equal(written[: len(a)], a)
        assert torch.equal(written[len(a) + 1 :][: len(b)], b)
        assert torch.equal(changed[: len(b)], b)
        assert torch.equal(changed[len(b) + 1 :][: len(a)], a)


@pytest.mark.parametrize("sentences_of_each", [2, 3, 4, 5])
def test_only_order_tells_the_order_of_halves(sentences_of_each):
    """Catches halves of which one has more sentences, another end, or a mark of its own."""
    torch.manual_seed(0)
    x = torch.randint(t.FIRST_WORD, V, (8, sentences_of_each, 12))
    x[..., 9:], x[..., 8] = t.PAD, t.END
    method = method_of("sentence_order")
    method.head.mlm_weight = 0.0
    ids, _, _, begins = method.views(Batch(x, torch.arange(8)))
    written, changed = ids.chunk(2)
    assert torch.equal(written.sort(1).values, changed.sort(1).values)
    assert torch.equal(begins[:8], begins[8:])
    marks = [torch.where(part >= t.FIRST_WORD, t.FIRST_WORD, part) for part in (written, changed)]
    assert torch.equal(*marks)
    method = method_of("next_sentence")
    first, second, follows = method.pairs(Batch(x, torch.arange(8)))
    assert torch.equal((first != t.PAD).sum(1), torch.full((8,), 9 * (sentences_of_each // 2)))
    assert len((second != t.PAD).sum(1).unique()) == 1  # whether it follows or not
    assert follows.any()
    assert not follows.all()


def test_what_follows_is_never_said_not_to():
    """Fails where a text alone in its batch, or one of equal texts, is its own wrong half."""
    batch, _ = batch_of(2)
    method = method_of("next_sentence")
    equal = batch._replace(x=batch.x[:1].expand(2, -1, -1, -1))
    alone = batch._replace(x=batch.x[:1], index=batch.index[:1])
    for seed in range(20):
        torch.manual_seed(seed)
        assert method.pairs(equal)[2].all()
        assert method.pairs(alone)[2].all()
    with pytest.raises(UserError, match="holds 1 for each process"):
        method.views(alone)


def test_a_verdict_reads_the_means_of_both_texts():
    batch, _ = batch_of(8)
    method = method_of("next_sentence").eval()
    first, second, _ = method.pairs(batch)
    ids = t.pack_tokens(t.join_texts(first, second))
    result = method.head.score(first, second, method.encoder)
    for row, one, end, score in zip(
        ids, method.encoder.states(ids), 1 + (first != t.PAD).sum(1), result, strict=True
    ):
        many = int((row != t.PAD).sum())
        u, v = one[1 : 1 + end].mean(0), one[1 + end : 1 + many].mean(0)
        expected = method.head.classifier(torch.cat([u, v, u * v, (u - v).abs()]))
        assert torch.allclose(score, expected[0], atol=1e-5)


def test_the_order_that_scores_more_is_the_right_one():
    batch, _ = batch_of(8)
    method = method_of("sentence_order").eval()
    method.head.mlm_weight = 0.0
    first, second = method.halves(batch)
    written, changed = (
        method.head.score(*both, method.encoder) for both in ((first, second), (second, first))
    )
    assert torch.equal(method.correct(batch), written > changed)
    chosen = torch.stack([written, changed], 1)
    expected = F.cross_entropy(chosen, torch.zeros(8, dtype=torch.long))
    assert torch.allclose(method.loss(method.views(batch)), expected, atol=1e-5)


def test_nobody_is_elsewhere_at_home():
    for n in (2, 3, 10):
        result = t.derangement(n, torch.device("cpu"))
        assert (result != torch.arange(n)).all()
        assert sorted(result.tolist()) == list(range(n))


@pytest.mark.parametrize("unit", ["words", "sentences"])
def test_shuffled_parts_and_their_places(unit):
    cls = registry.find("methods", "word_order")
    method = cls(build("text_transformer", 1, (4, 12), vocabulary=V, width=16), unit=unit)
    batch, rows = batch_of(8)
    ids, here, path = method.views(batch)
    back = path.argsort(1)
    if unit == "words":
        there = ids.gather(1, here.gather(1, back))
        assert all(
            any(torch.equal(w, row[1:7]) for row in r) for w, r in zip(there, rows, strict=True)
        )
    else:
        assert (ids.gather(1, here) == t.END).all()
        for one, ends, order, text_ in zip(ids, here, path, rows, strict=True):
            start = 0
            for end, which in zip(ends.tolist(), order.tolist(), strict=True):
                words = text_[which][text_[which] > t.END]
                assert torch.equal(one[start:end], words)
                start = end + 1
    scores = method.scores(ids, here)
    for states, ends, outputs in zip(method.encoder.states(ids)[:, 1:], here, scores, strict=True):
        begins = [0, *(ends[:-1] + 1).tolist()]
        spans = zip(begins, ends.tolist(), strict=True)
        means = torch.stack([states[a : b + 1].mean(0) for a, b in spans])
        assert torch.allclose(method.score_head(means)[:, 0], outputs, atol=1e-5)
    naive = 0.0
    for row, order in zip(scores, back, strict=True):
        left = [row[j] for j in order]
        for i in range(len(left)):
            naive += torch.stack(left[i:]).logsumexp(0) - left[i]
    assert method.loss((ids, here, path)).item() == pytest.approx(
        (naive / scores.numel()).item(), rel=1e-5
    )


def test_what_follows_a_short_sentence_is_not_put_in_order():
    """Catches padding or the end of a sentence taken for words that are asked for."""
    method = method_of("word_order")
    short = torch.full((4, 4, 12), t.PAD)
    short[..., :5] = torch.randint(t.FIRST_WORD, V, (4, 4, 5))
    short[..., 5] = t.END
    ids, here, path = method.views(Batch(short, torch.arange(4)))
    scores, naive = method.scores(ids, here), 0.0
    for row, ends, outputs, order in zip(ids, here, scores, path.argsort(1), strict=True):
        left = [outputs[j] for j in order if row[ends[j]] >= t.FIRST_WORD]
        assert len(left) == 3  # neither the first nor the last word is asked for
        naive += sum(torch.stack(left[i:]).logsumexp(0) - left[i] for i in range(3))
    loss = method.loss((ids, here, path))
    assert loss.item() == pytest.approx(naive.item() / 12, rel=1e-5)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in method.score_head.parameters())


STARTS = "1" * t.FIRST_WORD + "10" * ((V - t.FIRST_WORD) // 2) + "1"


def in_pieces(n=200, seed=0):
    """Sentences of words of one to four tokens, of which those of even numbers continue others."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, 4, 40), np.int64)
    for text_ in x:
        for row in text_:
            words = [
                [5 + 2 * rng.integers(140), *(6 + 2 * rng.integers(140, size=rng.integers(4)))]
                for _ in range(rng.integers(1, 10))
            ]
            ids = [*np.concatenate(words), t.END]
            row[: len(ids)] = ids
    return torch.from_numpy(x)


def whole_words(ids):
    """The words of a sentence, as tuples of tokens."""
    result = []
    for i in ids.tolist():
        if i > t.END and STARTS[i] == "1":
            result.append((i,))
        elif i > t.END:
            result[-1] = (*result[-1], i)
    return result


def test_pieces_of_a_word_stay_together_in_their_order():
    """Catches shuffling byte pairs; parts lost, doubled, or split at another piece; a first or last
    word among them; a wrong place.
    """
    rows = in_pieces()
    net = build("text_transformer", 1, (4, 40), vocabulary=V, width=16)
    method = registry.find("methods", "word_order")(net, word_starts=STARTS)
    batch = Batch(rows, torch.arange(len(rows)))
    ids, here, path = method.views(batch)
    full = 0
    for one, ends, order, text_ in zip(ids, here, path, rows, strict=True):
        begins = [0, *(ends[:-1] + 1).tolist()]
        spans = [tuple(one[a : b + 1].tolist()) for a, b in zip(begins, ends, strict=True)]
        there = method.present(one[None], ends[None])[0]
        words = [span for span, known in zip(spans, there, strict=True) if known]
        assert sum(map(len, words)) == int((one != t.PAD).sum())  # and nothing else
        back = [None] * len(words)
        for word, i in zip(words, order.tolist(), strict=False):
            back[i] = word
        assert any(back == whole_words(row)[1:-1][:6] for row in text_)
        full += len(words) == 6
    assert full > 30
    assert len({tuple(o) for o in path.tolist()}) > 100


def test_marks_of_words_say_nothing_of_their_order():
    """Catches any order that the marks, or the number of pieces, betray: who knows nothing but
    them finds the place of each word by chance.
    """
    rows = torch.full((4000, 4, 40), t.PAD)
    words = [5], [7], [9, 6], [11, 8, 8], [13, 10, 10, 6], [15], [17, 8]
    rows[..., :15] = torch.tensor(
        [*(i for word in words for i in word), t.END]
    )  # whichever is drawn
    net = build("text_transformer", 1, (4, 40), vocabulary=V, width=16)
    method = registry.find("methods", "word_order")(net, word_starts=STARTS, max_words=5)
    torch.manual_seed(0)
    ids, here, _ = method.views(Batch(rows, torch.arange(4000)))
    length = here.diff(dim=1, prepend=torch.full_like(here[:, :1], -1))
    assert sorted(length[0].tolist()) == [1, 1, 2, 3, 4]
    for pieces in range(1, 5):  # wherever a word of so many pieces stands, it may be any of them
        share = (length == pieces).double().mean(0)
        assert share == pytest.approx([(2 if pieces == 1 else 1) / 5] * 5, abs=0.03)
    marks = torch.tensor([c == "1" for c in STARTS])[ids]
    assert marks[:, 0].all()  # no text begins with a piece that continues another


def test_a_tokenizers_marks_of_spaces_begin_words():
    """Catches marks of another kind of tokenizer, and a heading's ## taken for WordPiece's."""
    library = bpe._library()
    captions = "unbelievable cats, wasn't it? #### ####x 3.14 naïve (mat)."
    known = bpe.train_tokenizer([captions] * 3, 300)
    starts = bpe.word_starts(known.to_str())
    tokens = bpe.encode(known, [captions])[0].tolist()
    words, at = [], -1
    for i in tokens:
        at += starts[i] == "1"
        words += [[]] * (at == len(words))
        words[at] = [*words[at], i]
    assert [known.decode(word).strip() for word in words] == captions.split()
    content = {i: n for n, i in enumerate([*SPECIAL, "un", "##able", "cat"])}
    piece = library.Tokenizer(library.models.WordPiece(content, unk_token="[UNK]"))
    assert bpe.word_starts(piece.to_str()) == "11111" + "101"
    level = library.Tokenizer(library.models.WordLevel({**content}, unk_token="[UNK]"))
    assert bpe.word_starts(level.to_str()) == "1" * 8


def test_a_run_shuffles_whole_words(rows):
    """Catches marks that never reach the method, or its record, with which it is opened again."""
    options = {"encoder_args": {"width": 32, "layers": 2}}
    job = prepare("word_order", rows, **options)
    starts = bpe.word_starts(rows.modality.tokenizer)
    assert "0" in starts
    assert "".join("01"[int(s)] for s in job.method.starts) == starts
    assert job.config["method_args"]["word_starts"] == starts
    assert language.orders(job.method.eval(), rows.test)["parts"] == 6
    with pytest.raises(UserError, match="has 3 marks"):
        type(job.method)(job.method.encoder, word_starts="101")


def test_intervals_of_the_word_order_are_over_groups(rows, monkeypatch):
    """Catches texts of one book that count as independent, and groups of other texts."""
    from unlabeled.evaluation.metrics import metric_of
    from unlabeled.evaluation.metrics import sentences as module

    job = prepare("word_order", rows, encoder_args={"width": 32, "layers": 2})
    method, n = job.method.eval(), len(rows.test)
    _, parts, known = language.order_scores(method, rows.test)
    batch = Batch(torch.from_numpy(rows.test.x[known]).long(), torch.arange(len(known)))
    ids, here, _ = method.views(batch)
    assert parts == 6
    assert method.present(ids, here).all()
    assert len(set(known)) == len(known)
    of_book = np.random.default_rng(0).random((n // 8 + 1, 2)).repeat(8, 0)[:n]
    scores = of_book[known]
    monkeypatch.setattr(module, "order_scores", lambda *_: (scores, parts, known))
    widths = []
    for groups in (None, np.arange(n) // 8):
        splits = replace(rows, test=replace(rows.test, groups=groups))
        subject = Subject("word_order", splits, method.encoder)
        subject.method = method
        values = metric_of("word_order").compute(subject)
        widths.append([values[k].high - values[k].low for k in sorted(values)])
    assert min(b / a for a, b in zip(*widths, strict=True)) > 1.8


def test_masked_sentences_do_not_see_the_hidden_one():
    method = method_of("masked_sentences").eval()
    rows = batch_of(6)[1]
    at = torch.tensor([0, 1, 2, 3, 0, 1])
    foretold, true = method.query_and_key(rows, at)
    other = rows.clone()
    other[torch.arange(6), at] = other[torch.arange(6), at].flip(1)
    again, changed = method.query_and_key(other, at)
    torch.testing.assert_close(foretold, again)
    assert not torch.allclose(true, changed)


def test_equal_sentences_are_no_negatives():
    """Catches two views of the same words, drawn from two texts, that are pushed apart."""
    method = method_of("simcse", dropout=0.1).eval()  # views are equal where words are
    batch, rows = batch_of(8)
    rows[:, :] = rows[:2].repeat(4, 1, 1)[:, :1]  # two sentences in eight texts
    a, b, sentence = method.views(batch._replace(x=rows))
    assert torch.equal(sentence[:, None] == sentence, (a[:, None] == a).all(2))
    assert len(sentence.unique()) == 2
    z = F.normalize(method.head(method.encoder.features(torch.cat([a, b]))).float(), dim=1)
    near = (z @ z.T / method.temperature).masked_fill(torch.eye(16, dtype=torch.bool), -torch.inf)
    own = torch.arange(16) % 2
    right = (own[:, None] == own) & ~torch.eye(16, dtype=torch.bool)
    expected = -near.log_softmax(1)[right].mean()
    assert method.loss((a, b, sentence)).item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_sentence_said_twice_is_no_wrong_answer():
    """Catches candidates that are equal to the right one counted against it."""
    x = batch_of(40)[1].numpy().astype(np.int32)
    same = np.repeat(x[:1], 40, 0)
    method = method_of("masked_sentences").eval()
    assert (
        language.hidden_sentences(method, Samples(same, modality=Text(V, 12, 4)), 20)["first"] < 1
    )  # of other places
    same[:, 1:] = same[:, :1]
    assert (
        language.hidden_sentences(method, Samples(same, modality=Text(V, 12, 4)), 20)["first"] == 1
    )
    method = method_of("skip_thoughts").eval()
    assert language.neighbors(method, Samples(same, modality=Text(V, 12, 4)), 20)["first"] == 1


def test_synonyms_are_the_nearest_words():
    cls = registry.find("methods", "simcse")
    plain = method_of("simcse")
    method = cls(plain.encoder, view="synonyms")
    weight = F.normalize(method.encoder.embed.weight.detach(), dim=1)
    near = weight[17] @ weight.T
    near[17] = near[: t.FIRST_WORD] = -1
    assert method.neighbors[17].tolist() == near.topk(5).indices.tolist()
    ids = batch_of()[1].flatten(1)
    assert torch.equal(plain.augment(ids), ids)  # dropout alone changes no word
    assert not torch.equal(method.augment(ids), ids)
    lstm = build("text_lstm", 1, (4, 12), vocabulary=V, width=16, layers=1)
    with pytest.raises(UserError, match="an LSTM of one layer"):
        cls(lstm)
    cls = registry.find("methods", "simcse")
    reworded = cls(method.encoder, view="synonyms", replace_ratio=0.5).augment(ids)
    words = ids >= t.FIRST_WORD
    assert torch.equal(reworded[~words], ids[~words])
    assert (reworded != ids)[words].float().mean() == pytest.approx(0.5, abs=0.05)
    x = batch_of()[0].x
    dry = build("text_transformer", 1, (4, 12), vocabulary=V, width=32, layers=2, dropout=0.0)
    cls(dry)  # as where one starts with a network that left nothing out
    for encoder in (method.encoder, dry):
        a, b = (encoder.train()(x) for _ in range(2))
        assert not torch.equal(a, b)


def test_a_decoder_says_words_one_after_another():
    method = method_of("skip_thoughts").eval()
    ids = ids_of(3, 8)
    z = torch.randn(3, method.encoder.dim)
    full = method.next_decoder(z, ids, method.encoder)
    changed = ids.clone()
    changed[:, 5] = 5
    other = method.next_decoder(z, changed, method.encoder)
    assert torch.equal(full[:, :5], other[:, :5])
    assert not torch.equal(full[:, 6:], other[:, 6:])
    assert not torch.allclose(full, method.next_decoder(-z, ids, method.encoder))


def test_kneser_ney_counts_tokens_as_it_counts_letters():
    letters = b"the cat sat on the mat and that was that" * 3
    ids = np.frombuffer(letters, np.uint8).astype(np.int32) + 1000
    one, other = KneserNey(letters, 3, 4096), KneserNey(spelled(ids), 3, 4096)
    assert one.bits(letters) == pytest.approx(other.bits(spelled(ids)))
    asked = [one.probability(letters[i : i + 1], letters[max(0, i - 2) : i])
             for i in range(len(letters)) if letters[i : i + 1] != b" "]  # fmt: skip
    assert one.bits(letters, b" ") == pytest.approx(-np.log2(asked).mean())


def test_one_score_for_all_is_chance():
    flat, right = torch.zeros(50, 50), torch.arange(50)
    assert language.among(flat, right) == pytest.approx(1 / 50)
    assert language.among(flat, right, 26) == pytest.approx(26 / 50)
    assert language.among(torch.eye(50), right) == 1.0
    torch.manual_seed(0)
    assert language.among(
        torch.rand(5000, 20), torch.zeros(5000, dtype=torch.long)
    ) == pytest.approx(0.05, abs=0.01)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Stories whose next sentence can be told: a name goes through each, in a fixed order."""
    rng = np.random.default_rng(0)
    names = ["Anna", "Boris", "Clara", "David", "Emma", "Frank", "Greta", "Henry"]
    things = ["bread", "water", "paper", "stone", "silver", "cotton"]

    def story():
        name, thing = rng.choice(names), rng.choice(things)
        return (
            f"In the morning {name} went to the market. There {name} bought some {thing}. "
            f"Later {name} carried the {thing} home. At night {name} had enough of the {thing}."
        )

    path = tmp_path_factory.mktemp("world")
    for part, many in (("train", 400), ("test", 60)):
        (path / f"tales_{part}.txt").write_text("\n\n".join(story() for _ in range(many)))
    return path


def test_pieces_and_sentences(world):
    pieces = text.load(str(world), length=16, vocabulary=400)
    rows = sentences.load(str(world), length=16, tokenizer=pieces.modality.tokenizer)
    assert pieces.train.x.shape[1:] == (1, 16)
    assert rows.train.x.shape == (400, 4, 16)
    assert len(rows.test) == 60
    known = bpe.open_tokenizer(pieces.modality.tokenizer)
    captions = known.decode(rows.train.x[0, 0].tolist())
    assert captions.startswith(" In the morning")
    assert captions.endswith("market.")
    first = np.concatenate([r[r > 0] for r in rows.train.x[0]])
    piece = pieces.train.x[:8].ravel()
    assert (first[first != t.END] == piece[piece > t.END][: (first != t.END).sum()]).all()
    with pytest.raises(UserError, match="at least 4"):
        text.load(str(world), length=2)
    with pytest.raises(UserError, match="at least 2 rows"):
        sentences.load(str(world), rows=1)


@pytest.mark.filterwarnings("ignore:.*are a sample:unlabeled.errors.Notice")
def test_texts_that_are_only_read_stay_in_their_order(tmp_path):
    """Catches files of which the end, or every tenth, is moved behind the others."""
    for i in range(20):
        (tmp_path / f"{i:02}.txt").write_text(f"Number {i:02}. " * 12)
    tokenizer = bpe.train_tokenizer(["Number 0 1 2 3 4 5 6 7 8 9."] * 9, 300).to_str()
    known = bpe.open_tokenizer(tokenizer)
    for size in ((1, 400), (3, 40)):
        like = text.modality_of(known, size[1], size[0])
        splits = open.reopen_texts(str(tmp_path), like, tested=False)
        assert len(splits.test) == 0
        captions = [known.decode(row.ravel().tolist()).split()[1][:2] for row in splits.train.x[:]]
        assert captions == sorted(captions)
        assert len(set(captions)) == 20
        assert len(open.reopen_texts(str(tmp_path), like).test) > 0


def test_texts_in_an_array_are_those_of_the_list():
    """Catches strings of numpy that are refused as tokens."""
    known = bpe.train_tokenizer(["one two three"] * 9, 300)
    like, texts = text.modality_of(known, 8), ["one two", "three", ""]
    expected = open.read_data(texts, like=like).x
    for array in (np.array(texts), np.array(texts, object)):
        np.testing.assert_array_equal(open.read_data(array, like=like).x, expected)
    with pytest.raises(UserError, match="texts to learn from as text:FILE"):
        open.open_data(texts)


def test_texts_in_memory_are_cut_aloud():
    """Catches the end of a text that an encoder does not see, without a word; and END, counted."""
    known = bpe.train_tokenizer(["one two three"] * 9, 300)
    texts = ["one two three", "one two three one", "one"]
    one, several = (text.modality_of(known, 4 * rows, rows) for rows in (1, 3))
    with pytest.warns(Notice, match="1 of 3 texts are longer than 3 tokens and are cut"):
        x = open.read_data(texts, like=one).x
    assert (x[0, 0] > 0).all()
    with pytest.warns(Notice, match="1 of 2 texts are longer than 3 sentences of 11 tokens"):
        open.read_data(["One. Two. Three. Four.", "One."], like=several)


@pytest.mark.parametrize("glue", [" ", ""])
def test_a_corpus_of_one_line_is_learned_and_tested(glue, tmp_path):
    """Catches a text without line breaks, or spaces, that has no part to test on."""
    captions = [f"Dies ist Satz {i}." if glue else f"這是第{i}句話。" for i in range(120)]
    (tmp_path / "one.txt").write_text(glue.join(captions), encoding="utf-8")
    for kind, least in ((text, 2), (sentences, 3)):
        splits = kind.load(str(tmp_path / "one.txt"), length=32, vocabulary=320)
        assert len(splits.train) > 5 * least
        assert len(splits.test) >= least
    known = bpe.open_tokenizer(splits.modality.tokenizer)
    assert known.decode(splits.test.x[-1, -1].tolist()).strip() == captions[-1]


@pytest.fixture(scope="module")
def rows(world):
    return sentences.load(str(world), length=16, vocabulary=400)


def train(name, rows, out, **options):
    arguments = {"epochs": 2, "batch_size": 8, "progress": False, "logger": "none", "lr": 3e-3}
    args = {"width": 32, "layers": 2}
    return ul.train(name, rows, out=out, encoder_args=args, **arguments | options)


@ALIKE
def test_hidden_words_are_found_and_the_run_reads_texts(rows, tmp_path, capsys):
    run = train("masked_lm", rows, tmp_path / "m")
    result = language.hidden_words(run.method.eval(), rows.test)
    counts = language.counted(rows.train, rows.test, rows.modality.vocabulary)
    assert result["accuracy"] > 2 * counts["most_frequent_class"]
    assert min(v for k, v in counts.items() if k.endswith("-gram")) < counts["unigram"]
    captions = ["Anna went home. She was tired.", "There was bread."]
    run = ul.load(tmp_path / "m")
    z = run.embed(captions)
    assert z.shape == (2, 32)
    assert np.allclose(z[1:], run.embed(captions[1:]), atol=1e-5)  # padding does not matter
    scripted = torch.jit.load(export(run, "torchscript"))
    ids = torch.from_numpy(run.read(captions).x[:].astype(np.int64))  # (B, sentences, L)
    assert np.allclose(scripted(ids).detach(), z, atol=1e-5)  # texts of any length
    path = tmp_path / "report.txt"
    path.write_text("\n".join([*captions] * 9))
    out = str(tmp_path / "f.npy")
    assert main(["embed", str(tmp_path / "m"), str(path), "--out", out]) == 0
    assert np.load(out).shape[1] == 32
    assert main(["evaluate", str(tmp_path / "m"), "--data", str(path), "--json"]) == 0
    assert '"rankme"' in capsys.readouterr().out
    after = train("sentence_order", rows, tmp_path / "o", init=run.path, mlm_weight=0.0)
    shares = language.correct_answers(after.method.eval(), rows.test)
    assert shares.shape == (60,)
    assert shares.mean() > 0.8
    assert (tmp_path / "o" / "tokenizer.json").read_text() == run.modality.tokenizer


def test_only_what_a_mask_stands_for_is_asked(rows):
    """Who copies what is shown gets nothing right."""
    method = method_of("masked_lm", vocabulary=rows.modality.vocabulary)

    def copied(seen, chosen):
        return F.one_hot(seen[chosen].clamp(min=t.FIRST_WORD), rows.modality.vocabulary).float()

    method.scores = copied
    assert language.hidden_words(method, rows.test)["accuracy"] < 0.05


@ALIKE
def test_words_are_foretold_better_than_by_what_is_common(rows, tmp_path):
    counts = language.counted(rows.train, rows.test, rows.modality.vocabulary)
    run = train("causal_lm", rows, tmp_path / "n")
    result = language.perplexity(run.method.eval(), rows.test)
    assert result < counts["unigram"] / 1.5
    naive, asked = 0.0, 0
    for one in rows.test.x:
        ids = torch.from_numpy(one[one > 0].astype(np.int64))[None]
        outputs = run.method.lm_head(run.encoder.states(ids)[:, :-1], run.encoder).log_softmax(2)
        words = ids >= t.FIRST_WORD
        naive -= outputs.gather(2, ids[:, :, None])[:, :, 0][words].sum().item()
        asked += int(words.sum())
    assert result == pytest.approx(math.exp(naive / asked), rel=1e-3)
    outputs = run.method.generate(torch.tensor([[9, 10]]), 5)
    assert outputs.shape == (1, 7)
    assert (outputs[:, 2:] >= t.FIRST_WORD).all()


@ALIKE
def test_order_and_hidden_sentences_are_learned(rows, tmp_path):
    run = train("word_order", rows, tmp_path / "s", unit="sentences")
    result = language.orders(run.method.eval(), rows.test)
    assert result["parts"] == 4
    assert result["tau"] > 0.8
    assert result["exact"] > 0.5
    run = train("masked_sentences", rows, tmp_path / "h", batch_size=16)
    result = language.hidden_sentences(run.method.eval(), rows.test, 20)
    assert result["first"] > 2 * result["chance"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train masked_lm --data dsprites", "learns from text"),
        ("train next_sentence --data text", "learns from texts of 2 or more sentences"),
        ("train simclr --data text", "but text holds texts"),
        ("train clip --data text", "learns from pairs, but text holds texts"),
        ("train masked_lm --data text:nowhere", "no text at 'nowhere'"),
        (
            "train masked_lm --data text --encoder small",
            "takes images or recordings, but text holds texts",
        ),
        (
            "train masked_lm --data text --encoder_args.direction causal",
            "needs a bidirectional text encoder",
        ),
    ],
)
def test_what_does_not_fit_is_reported(command, message, capsys, tmp_path):
    assert main([*command.split(), "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err


def test_a_run_on_books_is_judged_from_its_folder(world, tmp_path, capsys):
    path = tmp_path / "books"
    path.mkdir()
    for kind in ("books", "wikipedia"):
        for part in ("train", "test"):
            content = (world / f"tales_{part}.txt").read_bytes()
            (path / f"{kind}_{part}.txt.gz").write_bytes(gzip.compress(content))
    (path / "notes.txt").write_text("Not of the set. It is passed over.")
    run = train("masked_lm", f"books:{path}", tmp_path / "m", epochs=1)
    assert main(["evaluate", str(tmp_path / "m")]) == 0
    again = ul.evaluate(ul.load(tmp_path / "m"), f"books:{path}")
    assert again["n_test"] == len(run.data.test)
    other = train("simcse", f"books:{path}", tmp_path / "v", epochs=1, init=run.path)
    assert other.modality.tokenizer == run.modality.tokenizer
    mixed = sentences.load(str(world), length=run.size[1], vocabulary=300)
    with pytest.raises(UserError, match="in other tokens"):
        ul.evaluate(run, mixed)


def test_only_whole_words_say_what_a_file_is_for(tmp_path):
    names = ("new_testament", "latest", "invalid", "my_test_notes")
    for name in (*names, "poems-train", "poems-test", "poems.valid"):
        (tmp_path / f"{name}.txt").write_text("A line of text. And one more.")
    with pytest.warns(Notice, match=r"poems-test.txt is tested on and poems.valid.txt is left out"):
        documents = corpus.read(tmp_path)
    assert sorted((d.source, d.test) for d in documents) == [
        ("invalid", False), ("latest", False), ("my_test_notes", False), ("new_testament", False),
        ("poems", False), ("poems", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "tested", "kept"),
    [
        (("test.txt", "train-1.txt", "valid.txt"), ["test.txt"], 2),
        (("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"), ["wiki.test.tokens"], 2),
        (("train.TXT", "dev.txt"), ["dev.txt"], 2),
        (("a_test.txt", "Validation-0.md"), [], 2),  # nothing would be left to learn from
        (("contest.txt", "a test of time.txt", "protests.txt"), [], 3),
    ],
)
def test_files_named_as_splits_are_reported(names, tested, kept, tmp_path):
    """Against a test part taken from the middle of a name, or taken without a word."""
    for name in names:
        (tmp_path / name).write_text("A line of text. And one more.")
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        documents = corpus.read(tmp_path)
    assert len(documents) == kept
    assert sum(d.test for d in documents) == len(tested)
    words = " ".join(str(notice.message) for notice in notices)
    assert all(f"{name} is tested on" in words for name in tested)
    assert bool(notices) == bool(tested)


def test_text_in_linked_folders_is_read_and_what_is_left_out_counted(tmp_path):
    """Against folders of links that seem empty, and endings in capitals that are invisible."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "A.TXT").write_text("A line of text.")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "texts" / "b.pdf").write_text("no text")
    with pytest.warns(Notice, match=r"1 text file is read; left out: 1 .pdf"):
        assert len(corpus.read(tmp_path / "texts")) == 1


def test_classes_of_test_texts_are_matched_by_name(tmp_path):
    """Catches: classes by their number, where the test part lacks one and has a new one."""
    words = {"a": "apple", "b": "birch", "c": "cedar", "d": "daisy"}
    for part, files in (("train", "abc"), ("test", "acd")):
        (tmp_path / part).mkdir()
        for name in files:
            lines = [f"the {words[name]} {part} {i} " * 8 for i in range(12)]
            (tmp_path / part / f"{name}.txt").write_text("\n\n".join(lines))
    with pytest.warns(Notice) as caught:
        splits = ul.open_data(f"text:{tmp_path / 'train'}", test=f"text:{tmp_path / 'test'}")
    notices = [str(w.message) for w in caught]
    assert any(
        "1 of the 3 classes of source to test on" in m and m.endswith(": d") for m in notices
    )
    assert any(
        "1 of the 3 classes of source to learn from has no" in m and m.endswith(": b")
        for m in notices
    )
    tokenizer = bpe.open_tokenizer(splits.modality.tokenizer)
    for part, files in ((splits.train, "abc"), (splits.test, "acd")):
        names = np.array(splits.classes)[part.factors["source"]]
        assert set(names) == set(files)
        for row, name in zip(part.x, names, strict=True):
            assert words[name[0]] in tokenizer.decode(row[0].tolist())


def test_sentences_that_are_left_out_or_cut_are_counted(tmp_path):
    """Catches sentences that are lost at the end of a document, short ones, and cut ones."""
    lines = [f"the number of this line is certainly {i}" for i in range(101)] + ["a", "the " * 99]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    with pytest.warns(Notice) as notices:
        splits = open.open_data(f"sentences:{tmp_path / 'lines.txt'}")
    words = next(str(n.message) for n in notices if "are a sample" in str(n.message))
    used = 4 * (len(splits.train) + len(splits.test))
    short = 1
    rest = 103 - used - short
    assert f"{rest + short} of 103 sentences are left out, 1 of fewer than 4 tokens" in words
    assert f"and {rest} at the end of a document" in words
    assert "1 of more than 31 tokens are cut" in words


def test_a_run_on_texts_knows_where_they_are(tmp_path, monkeypatch):
    """Catches a relative path, which is another place from another folder."""
    (tmp_path / "a.txt").write_text("one")
    monkeypatch.chdir(tmp_path)
    for name in ("text", "sentences"):
        assert record_data(f"{name}:a.txt") == f"{name}:{tmp_path / 'a.txt'}"
    assert record_data("text:nowhere") == "text:nowhere"
    assert record_data("dsprites") == "dsprites"
