"""word2vec beside the formula, gensim's files, and itself; what a corpus is."""

import gzip
import json

import numpy as np
import pytest
import torch

from unlabeled import words
from unlabeled.cli import main
from unlabeled.datasets import corpus
from unlabeled.errors import UserError
from unlabeled.methods import word2vec as w2v
from unlabeled.tokens import MASK
from unlabeled.words import Words

needs_compiler = pytest.mark.skipif(w2v.compiled() is None, reason="no C++ compiler here")


def windows(n=60, vocabulary=20, k=5, seed=0):
    rng = np.random.default_rng(seed)
    draw = w2v.Drawing(rng.integers(1, 50, vocabulary), 3, k, 0, rng)
    text = rng.integers(0, vocabulary, n).astype(np.int32)
    return draw((text, np.arange(n) // 17))


def tables(vocabulary=20, dim=20, seed=1, dtype=torch.float32):
    torch.manual_seed(seed)
    wide = -(-dim // w2v.LANES) * w2v.LANES
    return [
        torch.nn.functional.pad(torch.randn(vocabulary, dim, dtype=dtype) / 3, (0, wide - dim))
        for _ in range(2)
    ]


def naive(pair, drawn, lr, model):
    """Each window as the papers' formula has it, its gradient by autograd."""
    loss = 0.0
    for at, word in enumerate(drawn.words):
        around = [i for i in range(at - drawn.left[at], at + drawn.right[at] + 1) if i != at]
        if not around:
            continue
        context = torch.as_tensor(drawn.words[around]).long()
        h = pair[0][context].clone().requires_grad_()
        w = pair[1].clone().requires_grad_()
        asked = h if model == "skip_gram" else h.mean(0, keepdim=True)
        cost = 0
        for row in asked:
            cost = cost - torch.sigmoid(row @ w[word]).log()
            for negative in drawn.negatives[at]:
                if negative != word:
                    cost = cost - torch.sigmoid(-row @ w[negative]).log()
        cost.backward()
        loss += cost.item()
        whole = 1 if model == "skip_gram" else len(context)  # each gets the gradient of the mean
        pair[0].index_add_(0, context, -lr * whole * h.grad)
        pair[1].sub_(lr * w.grad)
    return loss


@pytest.mark.parametrize("model", ["skip_gram", "cbow"])
@pytest.mark.parametrize("k", [1, 5, 8])
def test_plain_steps_are_the_formula(model, k):
    drawn = windows(k=k)
    ours, theirs = tables(dtype=torch.float64), tables(dtype=torch.float64)
    loss = w2v.stepped(ours, drawn, (0, 60), 0.05, model, batch=1)
    assert loss == pytest.approx(naive(theirs, drawn, 0.05, model))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("words", [0, 1])
def test_plain_steps_take_windows_without_context(words):
    """Subsampling may leave a part without words, or each alone in its line."""
    draw = w2v.Drawing(np.ones(20), 3, 5, 0, np.random.default_rng(0))
    drawn = draw((np.zeros(words, np.int32), np.arange(words)))
    for model in ("skip_gram", "cbow"):
        assert w2v.stepped(tables(), drawn, (0, words), 0.05, model) == 0


@needs_compiler
@pytest.mark.parametrize("model", ["skip_gram", "cbow"])
@pytest.mark.parametrize("k", [1, 5, 8, 20])
def test_both_ways_move_the_same(model, k):
    drawn = windows(k=k)
    ours, theirs = tables(), tables()
    loss = w2v.compiled()(ours, drawn, (0, 60), 0.05, model)
    assert loss == pytest.approx(w2v.stepped(theirs, drawn, (0, 60), 0.05, model, 1), rel=1e-5)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert not torch.equal(ours[0], tables()[0])


def test_windows_stay_in_their_line_and_vary():
    drawn = windows(2000)
    line = np.arange(2000) // 17
    at = np.arange(2000)
    assert (line[at - drawn.left] == line).all()
    assert (line[at + drawn.right] == line).all()
    inner = drawn.left[(at % 17 >= 3)]
    assert np.bincount(inner)[1:] == pytest.approx(np.full(3, len(inner) / 3), rel=0.15)


def test_negatives_and_subsampling_follow_their_powers():
    rng, counts = np.random.default_rng(0), np.array([10_000, 1000, 100, 10])
    draw = w2v.Drawing(counts, 5, 5, 1e-2, rng)
    text = np.repeat(np.arange(4), [40_000, 20_000, 20_000, 20_000]).astype(np.int32)
    drawn = draw((text, np.zeros(len(text), int)))
    share = np.bincount(drawn.negatives.ravel(), minlength=4) / drawn.negatives.size
    assert share == pytest.approx(counts**0.75 / (counts**0.75).sum(), rel=0.1)
    f = counts / counts.sum()
    stays = np.minimum(1, np.sqrt(1e-2 / f) + 1e-2 / f)
    assert np.bincount(drawn.words) / np.bincount(text) == pytest.approx(stays, rel=0.1)


def a_text(lines=3000, seed=0):
    """Animals stand with animals' verbs, tools with tools'."""
    rng = np.random.default_rng(seed)
    worlds = [
        ["cat", "dog", "cow", "eats", "sleeps", "runs"],
        ["saw", "axe", "nail", "cuts", "hits", "breaks"],
    ]
    return [[str(w) for w in rng.choice(worlds[i % 2], 8)] for i in range(lines)]


@pytest.mark.parametrize("model", ["skip_gram", "cbow"])
def test_it_learns_which_words_go_together(model, tmp_path, monkeypatch):
    options = {"dim": 16, "subsample": 0, "epochs": 3, "progress": False, "model": model}
    found = w2v.word2vec(a_text(), out=str(tmp_path / "a"), **options)
    plainly = pytest.MonkeyPatch()
    plainly.setattr(w2v, "compiled", lambda: None)
    plain = w2v.word2vec(a_text(900), out=str(tmp_path / "b"), **options | {"epochs": 8})
    plainly.undo()
    for known in (found, plain):
        near = [word for word, _ in known.nearest("cat", 5)]
        assert set(near) == {"dog", "cow", "eats", "sleeps", "runs"}
    again = w2v.word2vec(a_text(), out=str(tmp_path / "c"), **options)
    assert np.array_equal(found.vectors, again.vectors)


def test_the_loss_of_an_epoch_is_the_mean_of_a_question(tmp_path):
    """Before anything is learnt: log 2 for the word, and for each negative that is another word."""
    options = {"dim": 4, "epochs": 1, "lr": 2e-4, "subsample": 0, "progress": False}
    w2v.word2vec(a_text(500), out=str(tmp_path / "a"), **options)
    figures = json.loads((tmp_path / "a" / "word2vec.json").read_text())
    assert figures["loss"] == pytest.approx((1 + 5 * 11 / 12) * np.log(2), rel=0.01)
    assert figures["tokens"] == 4000


def test_files_are_gensims(tmp_path):
    gensim = pytest.importorskip("gensim.models", reason="gensim is not installed")
    rng = np.random.default_rng(0)
    ours = Words(["naïve", "b", "c"], rng.normal(size=(3, 5)).astype(np.float32))
    for name in ("v.bin", "v.txt"):
        ours.save(tmp_path / name)
        binary = name.endswith("bin")
        theirs = gensim.KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=binary)
        assert theirs.index_to_key == ours.words
        assert np.array_equal(theirs.vectors, ours.vectors)
        theirs.save_word2vec_format(str(tmp_path / name), binary=binary)
        back = words.load(tmp_path / name)
        assert back.words == ours.words
        assert back.vectors == pytest.approx(ours.vectors, rel=1e-5)


def test_similarities_and_analogies_are_gensims(tmp_path):
    gensim = pytest.importorskip("gensim.models", reason="gensim is not installed")
    rng = np.random.default_rng(0)
    names = [f"w{i}" for i in range(40)]
    ours = Words(names, rng.normal(size=(40, 6)).astype(np.float32))
    ours.save(tmp_path / "v.bin")
    theirs = gensim.KeyedVectors.load_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    for mine, other in zip(
        ours.analogy(("w1", "w2", "w3")), theirs.most_similar(["w2", "w3"], ["w1"]), strict=True
    ):
        assert mine[0] == other[0]
        assert mine[1] == pytest.approx(other[1], abs=1e-5)
    assert [w for w, _ in ours.nearest("w5")] == [w for w, _ in theirs.most_similar("w5")]
    asked = [tuple(rng.choice(names, 4, replace=False)) for _ in range(300)]
    asked += [(a, b, c, ours.analogy((a, b, c), 1)[0][0]) for a, b, c, _ in asked[:9]]
    (tmp_path / "q.txt").write_text(": s\n" + "\n".join(" ".join(q) for q in asked) + "\n")
    right, n = ours.analogies(words.read_analogies(tmp_path / "q.txt"))["s"]
    score, _ = theirs.evaluate_word_analogies(str(tmp_path / "q.txt"))
    assert (right / n, n) == (pytest.approx(score), 309)
    (tmp_path / "p.tsv").write_text(
        "".join(f"{a}\t{b}\t{i % 7}\n" for i, (a, b, *_) in enumerate(asked))
    )
    rho = ours.similarity(words.read_pairs(tmp_path / "p.tsv"))["rho"]
    assert rho == pytest.approx(theirs.evaluate_word_pairs(str(tmp_path / "p.tsv"))[1][0], abs=1e-6)


def test_the_command(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(" ".join(line) for line in a_text(600)))
    run = str(tmp_path / "run")
    assert (
        main(
            [
                "train",
                "word2vec",
                "--data",
                str(text),
                "--out",
                run,
                "--dim",
                "8",
                "--subsample",
                "0",
            ]
        )
        == 0
    )
    assert f"unlabeled words {run} --nearest" in capsys.readouterr().out
    assert main(["words", run, "--nearest", "cat", "--number", "3"]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 3
    (tmp_path / "p.csv").write_text("cat,dog,9\ncat,axe,1\ndog,saw,2\ncow,dog,8\nunseen,dog,5\n")
    assert (
        main(
            [
                "words",
                run,
                "--analogy",
                "cat",
                "dog",
                "cow",
                "--similarity",
                str(tmp_path / "p.csv"),
            ]
        )
        == 0
    )
    assert "80 % of the pairs known" in capsys.readouterr().out
    for line, told in (
        ([run], "ask something"),
        ([run, "--nearest", "unseen"], "'unseen' is none of the 12 words"),
        ([str(tmp_path / "no")], "ask something"),
        ([str(tmp_path / "no"), "--nearest", "cat"], "does not exist"),
        ([run, "--similarity", str(text)], "line 1 of"),
    ):
        assert main(["words", *line]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"", b"3 4\n", b"3 4\na ", b"99999999999 3\na 1 1 1\n", b"x y\n"]
)
def test_damaged_vectors_are_named(content, tmp_path):
    for name in ("v.bin", "v.txt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            words.load(tmp_path / name)


def test_documents_and_their_parts(tmp_path):
    long = "A line that is a paragraph, and longer than any that was broken to some width. " * 2
    with gzip.open(tmp_path / "books_train.txt.gz", "wt") as file:
        file.write(f"{long}\n{long}\n\n{long}\n")
    (tmp_path / "books_test.txt").write_text(f"{long}\n")
    (tmp_path / "books_valid.txt").write_text(f"{long}\n")
    (tmp_path / "notes.txt").write_text("Broken to\na width.\n\nAnother\nparagraph.\n")
    found = corpus.read(tmp_path)
    assert [(d.source, len(d.paragraphs), d.test) for d in found] == [
        ("books", 1, True), ("books", 2, False), ("books", 1, False), ("notes", 2, False),
    ]  # fmt: skip
    assert found[3].paragraphs == ["Broken to a width.", "Another paragraph."]
    train, test = corpus.split(found)
    assert (len(train), len(test)) == (3, 1)
    (tmp_path / "latin.txt").write_bytes("é".encode("latin1"))
    with pytest.raises(UserError, match=r"latin\.txt cannot be read as text.*UTF-8"):
        corpus.read(tmp_path / "latin.txt")
    with pytest.raises(UserError, match="no text at"):
        corpus.read(tmp_path / "nowhere")


def test_sentences_end_at_stops_and_not_at_titles():
    parts = ["Mr. Bennet was silent.", '"Why?" asked she.', "He paid 3.50 pounds!", '"No."', "She"]
    assert corpus.sentences(" ".join(parts)) == parts
    assert corpus.sentences("") == []


def test_pythons_documentation_is_always_there():
    documents = corpus.read()
    assert len(documents) > 50
    assert sum(len(p.split()) for d in documents for p in d.paragraphs) > 50_000


def test_a_tokenizer_knows_every_sign(tmp_path):
    pytest.importorskip("tokenizers")
    tokenizer = corpus.train_tokenizer(["the cat sat on the mat"] * 3, 300)
    told = "the mat – ünïcode 猫"
    (tokens,) = corpus.encode(tokenizer, [told])
    assert tokens.min() > MASK
    assert tokenizer.decode(tokens.tolist()).strip() == told
    again = corpus.open_tokenizer(tokenizer.to_str())
    assert np.array_equal(corpus.encode(again, [told])[0], tokens)
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        corpus.open_tokenizer(tmp_path / "t.json")
    with pytest.raises(UserError, match="300 to 65,536"):
        corpus.train_tokenizer(["a"], 10)
