"""word2vec beside the formula, gensim's files, and itself; what a corpus is."""

import codecs
import contextlib
import gzip
import json
import os
import textwrap
import tracemalloc

import numpy as np
import pytest
import torch

from unlabeled.augmentations.vocabulary import MASK
from unlabeled.cli.main import main
from unlabeled.data.readers import bpe, corpus
from unlabeled.errors import Notice, UserError
from unlabeled.objectives import skip_gram
from unlabeled.pipelines import word2vec as w2v
from unlabeled.runs import word_vectors
from unlabeled.runs.word_vectors import Words

needs_compiler = pytest.mark.skipif(
    skip_gram.compiled_step() is None, reason="no C++ compiler here"
)


def windows(n=60, vocabulary=20, k=5, seed=0):
    rng = np.random.default_rng(seed)
    draw = w2v.WindowSampler(rng.integers(1, 50, vocabulary), 3, k, 0, rng)
    text = rng.integers(0, vocabulary, n).astype(np.int32)
    return draw(text, np.arange(n) // 17)


def tables(vocabulary=20, dim=20, seed=1, dtype=torch.float32):
    torch.manual_seed(seed)
    wide = -(-dim // skip_gram.LANES) * skip_gram.LANES
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
        full = 1 if model == "skip_gram" else len(context)  # each gets the gradient of the mean
        pair[0].index_add_(0, context, -lr * full * h.grad)
        pair[1].sub_(lr * w.grad)
    return loss


@pytest.mark.parametrize("model", ["skip_gram", "cbow"])
@pytest.mark.parametrize("k", [1, 5, 8])
def test_plain_steps_are_the_formula(model, k):
    drawn = windows(k=k)
    ours, theirs = tables(dtype=torch.float64), tables(dtype=torch.float64)
    loss = skip_gram.torch_step(ours, drawn, (0, 60), 0.05, model, batch=1)
    assert loss == pytest.approx(naive(theirs, drawn, 0.05, model))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("words", [0, 1])
def test_plain_steps_take_windows_without_context(words):
    """Subsampling may leave a part without words, or each alone in its line."""
    draw = w2v.WindowSampler(np.ones(20), 3, 5, 0, np.random.default_rng(0))
    drawn = draw(np.zeros(words, np.int32), np.arange(words))
    for model in ("skip_gram", "cbow"):
        assert skip_gram.torch_step(tables(), drawn, (0, words), 0.05, model) == 0


@needs_compiler
@pytest.mark.parametrize("model", ["skip_gram", "cbow"])
@pytest.mark.parametrize("k", [1, 5, 8, 20])
def test_both_ways_move_the_same(model, k):
    drawn = windows(k=k)
    ours, theirs = tables(), tables()
    loss = skip_gram.compiled_step()(ours, drawn, (0, 60), 0.05, model)
    other = skip_gram.torch_step(theirs, drawn, (0, 60), 0.05, model, 1)
    assert loss == pytest.approx(other, rel=1e-5)
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
    draw = w2v.WindowSampler(counts, 5, 5, 1e-2, rng)
    text = np.repeat(np.arange(4), [40_000, 20_000, 20_000, 20_000]).astype(np.int32)
    drawn = draw(text, np.zeros(len(text), int))
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
    result = w2v.word2vec(a_text(), out=str(tmp_path / "a"), **options)
    plainly = pytest.MonkeyPatch()
    plainly.setattr(w2v, "compiled_step", lambda: None)
    plain = w2v.word2vec(a_text(900), out=str(tmp_path / "b"), **options | {"epochs": 8})
    plainly.undo()
    for known in (result, plain):
        near = [word for word, _ in known.nearest("cat", 5)]
        assert set(near) == {"dog", "cow", "eats", "sleeps", "runs"}
    again = w2v.word2vec(a_text(), out=str(tmp_path / "c"), **options)
    assert np.array_equal(result.vectors, again.vectors)


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    """Catches a second one that writes its vectors over the first one's."""
    fcntl = pytest.importorskip("fcntl", reason="no locks on Windows")
    other = os.open(tmp_path, os.O_RDONLY)  # what a training holds while it runs
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another process is training in"):
        w2v.word2vec(a_text(100), out=str(tmp_path), dim=4, epochs=1, progress=False)
    assert not list(tmp_path.iterdir())
    os.close(other)
    w2v.word2vec(a_text(100), out=str(tmp_path), dim=4, epochs=1, progress=False)


def test_the_loss_of_an_epoch_is_the_mean_of_a_question(tmp_path):
    """Before training: log 2 for the word, and for each negative that is another word."""
    options = {"dim": 4, "epochs": 1, "lr": 2e-4, "subsample": 0, "progress": False}
    w2v.word2vec(a_text(500), out=str(tmp_path / "a"), **options)
    figures = json.loads((tmp_path / "a" / "word2vec.json").read_text())
    assert figures["loss"] == pytest.approx((1 + 5 * 11 / 12) * np.log(2), rel=0.01)
    assert figures["tokens"] == 4000


def test_the_learning_rate_is_never_above_the_one_given(tmp_path, monkeypatch):
    """Catches a rate below the final 1e-4 that is raised to it."""
    rates = []

    def step(tables, windows, span, lr, model):
        rates.append(lr)
        return 0.0

    monkeypatch.setattr(w2v, "compiled_step", lambda: step)
    monkeypatch.setattr(w2v, "CHUNK", 1000)
    for start, end in ((2e-5, 2e-5), (1e-3, 1e-4)):
        rates.clear()
        options = {"dim": 4, "epochs": 2, "lr": start, "progress": False}
        w2v.word2vec(a_text(500), out=str(tmp_path / f"{start}"), **options)
        assert rates[0] == start
        assert rates == sorted(rates, reverse=True)
        assert end <= rates[-1] <= end + (start - end) / 4


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
        back = word_vectors.load(tmp_path / name)
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
    right, n = ours.analogies(word_vectors.read_analogies(tmp_path / "q.txt"))["s"]
    score, _ = theirs.evaluate_word_analogies(str(tmp_path / "q.txt"))
    assert (right / n, n) == (pytest.approx(score), 309)
    (tmp_path / "p.tsv").write_text(
        "".join(f"{a}\t{b}\t{i % 7}\n" for i, (a, b, *_) in enumerate(asked))
    )
    rho = ours.similarity(word_vectors.read_pairs(tmp_path / "p.tsv"))["rho"]
    assert rho == pytest.approx(theirs.evaluate_word_pairs(str(tmp_path / "p.tsv"))[1][0], abs=1e-6)


def test_vectors_with_capitals_are_evaluated(tmp_path):
    """Catches questions in lower case of which no word is known, as of GoogleNews; as gensim."""
    gensim = pytest.importorskip("gensim.models", reason="gensim is not installed")
    rng = np.random.default_rng(0)
    names = [f"W{i}" for i in range(40)] + ["w3", "W40"]
    ours = Words(names, rng.normal(size=(42, 6)).astype(np.float32))
    ours.save(tmp_path / "v.bin")
    theirs = gensim.KeyedVectors.load_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    asked = [(a, b, c, ours.analogy((a, b, c), 1)[0][0]) for a, b, c in rng.choice(names, (60, 3))]
    (tmp_path / "q.txt").write_text(": s\n" + "\n".join(" ".join(q) for q in asked) + "\n")
    right, n = ours.analogies(word_vectors.read_analogies(tmp_path / "q.txt"))["s"]
    score, _ = theirs.evaluate_word_analogies(str(tmp_path / "q.txt"))
    assert (right / n, n) == (pytest.approx(score, abs=0.05), 60)
    pairs = [(a, b, i % 7) for i, (a, b, *_) in enumerate(asked)]
    (tmp_path / "p.tsv").write_text("".join(f"{a}\t{b}\t{r}\n" for a, b, r in pairs))
    result = ours.similarity(word_vectors.read_pairs(tmp_path / "p.tsv"))
    rho = theirs.evaluate_word_pairs(str(tmp_path / "p.tsv"))[1][0]
    assert result == {"rho": pytest.approx(rho, abs=1e-6), "known": 1}


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
    assert "80 % of the pairs whose words" in capsys.readouterr().out
    (tmp_path / "none.txt").write_text("")
    for line, captions in (
        ([run], "give at least one of --nearest"),
        ([run, "--nearest", "unseen"], "'unseen' is not among the 12 words"),
        ([str(tmp_path / "no")], "give at least one of --nearest"),
        ([str(tmp_path / "no"), "--nearest", "cat"], "does not exist"),
        ([run, "--similarity", str(text)], "line 1 of"),
        ([run, "--analogies", str(tmp_path / "none.txt")], "holds no analogies; give lines of"),
        ([run, "--nearest", "cat", "--number", "-1"], "--number is -1, but must be at least 1"),
    ):
        assert main(["words", *line]) == 2
        assert captions in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"", b"3 4\n", b"3 4\na ", b"99999999999 3\na 1 1 1\n", b"x y\n"]
)
def test_damaged_vectors_are_named(content, tmp_path):
    for name in ("v.bin", "v.txt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            word_vectors.load(tmp_path / name)


def test_documents_and_their_parts(tmp_path):
    long = "A line that is a paragraph, and longer than any that was broken to some width. " * 2
    with gzip.open(tmp_path / "books_train.txt.gz", "wt") as file:
        file.write(f"{long}\n{long}\n\n{long}\n")
    (tmp_path / "books_test.txt").write_text(f"{long}\n")
    (tmp_path / "books_valid.txt").write_text(f"{long}\n")
    (tmp_path / "notes.txt").write_text("Broken to\na width.\n\nAnother\nparagraph.\n")
    with pytest.warns(Notice) as notices:
        result = corpus.read(tmp_path)
    messages = " ".join(str(warning.message) for warning in notices)
    assert "books_test.txt is tested on and books_valid.txt is left out" in messages
    assert "notes.txt: its lines were broken to a width and are joined" in messages
    assert [(d.source, len(d.paragraphs), d.test) for d in result] == [
        ("books", 1, True), ("books", 2, False), ("books", 1, False), ("notes", 2, False),
    ]  # fmt: skip
    assert result[3].paragraphs == ["Broken to a width.", "Another paragraph."]
    train, test = corpus.split(result)
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


@pytest.mark.parametrize(
    "parts",
    [
        ["Der Hund bellt.", "Ändern wir das?", "„Komm!“", "Er kam z. B. am 3. Mai zu Dr. Ötker."],
        ["Он пришёл.", "Это было в 1990 г.", "— Да?", "«Нет!»", "Я живу в г. Москва."],
        ["Καλημέρα.", "Ήταν εδώ;", "Ναι."],
        ["Hola.", "¿Qué tal?", "¡Bien!", "Élan vital, i.e. Bergson."],
        ["مرحبا.", "كيف حالك؟", "جيد!"],
        ["کیا حال ہے؟", "میں ٹھیک ہوں۔", "شکریہ۔"],
        ["यह एक वाक्य है।", "वह दिन.", "आया?", "हाँ."],
        ["გამარჯობა.", "როგორ ხარ?", "კარგად."],
        ["He doesn't.", "(3 cats.)", "Wait…", "'So.'", "I… am J. R. Smith, No. 5.", "No.", "Yes."],
    ],
)  # fmt: skip
def test_sentences_end_in_every_script(parts):
    """Catches capitals of English alone, lost quotes, and initials, dates and … taken for ends."""
    assert corpus.sentences(" ".join(parts)) == parts


def test_full_width_stops_need_no_space():
    """Catches texts without spaces taken for one sentence, and closing quotes lost to the next."""
    parts = [
        "你好。",
        "我是小明！",
        "你呢？！",
        "好｡",
        "“好的。”",
        "他说……再见",
        "『はい。』",
        "と言った。",
    ]
    assert corpus.sentences("".join(parts[:5])) == parts[:5]
    assert corpus.sentences("".join(parts[5:])) == ["他说……再见『はい。』", "と言った。"]
    assert corpus.sentences('他说："好。"你呢?我。') == ['他说："好。"', "你呢?", "我。"]


def wrapped(text, width):
    return "\n".join(textwrap.wrap(text, width))


def test_lines_that_are_sentences_stay_apart(tmp_path):
    """Catches sentences a line that are joined, or cut at a stop within; wrapped prose that is not
    joined; a decision that nobody is told of.
    """
    rng = np.random.default_rng(0)
    words = ["Hund", "bellt", "und", "Katzen", "schlafen", "im", "Garten", "approx.", "Nine"]
    lines = [" ".join(rng.choice(words, rng.integers(2, 14))) for _ in range(60)]
    stopped = [f"{line.replace('approx. N', 'n')}." for line in lines]
    for name, held in (("plain", lines), ("stops", stopped), ("long", [*stopped, "x" * 130 + "."])):
        (tmp_path / f"{name}.txt").write_text("\n".join(held) + "\n", encoding="utf-8")
        with pytest.warns(Notice, match=f"{name}.txt: each line is taken as a"):
            (document,) = corpus.read(tmp_path / f"{name}.txt")
        assert document.paragraphs == held
        assert name == "plain" or document.sentences == held
    for width in (60, 72, 100):
        text = "\n\n".join(wrapped(" ".join(stopped[i : i + 9]), width) for i in range(0, 60, 9))
        (tmp_path / "wrapped.txt").write_text(text, encoding="utf-8")
        with pytest.warns(Notice, match="broken to a width and are joined"):
            (document,) = corpus.read(tmp_path / "wrapped.txt")
        assert document.paragraphs == [" ".join(stopped[i : i + 9]) for i in range(0, 60, 9)]
    chinese = "今天天气很好。\n我们去公园吧！\n你来吗？\n"
    (tmp_path / "c.txt").write_text(chinese, encoding="utf-8")
    with pytest.warns(Notice, match="as a sentence"):
        assert corpus.read(tmp_path / "c.txt")[0].sentences == chinese.split()


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"Sentence {i} says so much." for i in range(40)),
        "without a stop " * 60,
        "".join(f"这是第{i}句。" for i in range(40)),
        "沒有標點符號的文字" * 30,
        "One. Two. Three.\n\nFour. Five. Six.\n\nSeven. Eight. Nine. Ten.",
    ],
)
def test_a_text_of_few_paragraphs_has_an_end_to_test_on(text, tmp_path):
    """Catches an empty test part, or one that is no tail; words lost or changed between."""
    (tmp_path / "one.txt").write_text(text, encoding="utf-8")
    documents = corpus.read(tmp_path / "one.txt")
    train, test = corpus.split(documents)
    assert [d.test for d in (*train, *test)] == [False, True]
    first, last = (" ".join(d.paragraphs) for d in (train[0], test[0]))
    assert "".join((first + last).split()) == "".join(text.split())
    assert 0.05 < len(last) / len(text) < 0.25


def test_every_tenth_of_many_short_texts_is_for_testing(tmp_path):
    """Catches short files of which none is tested."""
    for i in range(40):
        (tmp_path / f"{i:02}.txt").write_text(f"Short text number {i}.")
    train, test = corpus.split(corpus.read(tmp_path))
    assert [d.source for d in test] == ["09", "19", "29", "39"]
    assert len(train) == 36


def test_encodings_are_read_or_named(tmp_path):
    """Catches marks of the encoding left in the text, and zero bytes taken for letters."""
    text = "Grüße und naïve Wörter. Noch einer."
    for name in ("utf-8-sig", "utf-16", "utf-32"):
        path = tmp_path / f"{name}.txt"
        path.write_bytes(text.encode(name))
        with (
            contextlib.nullcontext()
            if "8" in name
            else pytest.warns(Notice, match="is read as UTF")
        ):
            assert corpus.read(path)[0].paragraphs == [text]
    (tmp_path / "b.txt").write_bytes(codecs.BOM_UTF16_BE + text.encode("utf-16-be"))
    with pytest.warns(Notice, match="UTF-16"):
        assert corpus.read(tmp_path / "b.txt")[0].paragraphs == [text]
    for name, content in (("latin", text.encode("latin-1")), ("bare", text.encode("utf-16-le"))):
        (tmp_path / f"{name}.txt").write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.txt cannot be read as text.*UTF-8"):
            corpus.read(tmp_path / f"{name}.txt")
    (tmp_path / "none.txt").write_text(" \n\n ")
    with pytest.raises(UserError, match="holds no text"):
        corpus.read(tmp_path / "none.txt")


def test_words_are_more_than_letters():
    """Catches codes, contractions and numbers cut or lost; marks that cut words of Hindi; two
    spellings of é and of an apostrophe.
    """
    text = "C2034, new_york 4711 (e-mail) don't don’t 3.14 1,000. C++ C# _so_ well--known 'tis"
    text += " cafe\u0301 café हिन्दी में می‌خواهم Ελλάδα"
    (line,) = bpe.lines_of_words([corpus.Document("a", [text])])
    assert line == [
        "c2034", "new_york", "4711", "e-mail", "don't", "don't", "3.14", "1,000", "c++", "c#", "so",
        "well", "known", "tis", "café", "café", "हिन्दी", "में", "می‌خواهم", "ελλάδα",
    ]  # fmt: skip
    with pytest.warns(Notice, match="1 of 2 words are of a script without spaces.*'今天天气很好'"):
        assert list(bpe.lines_of_words([corpus.Document("a", ["今天天气很好。 Ja."])]))


def test_words_with_spaces_make_files_that_gensim_reads(tmp_path):
    """Catches words that a file of vectors cannot hold, written as they are."""
    gensim = pytest.importorskip("gensim.models", reason="gensim is not installed")
    lines = [["new york", "is", "", "big\n"], ["new_york", "is", "big"]] * 40
    options = {"dim": 4, "epochs": 1, "progress": False, "subsample": 0}
    with pytest.warns(Notice, match="spaces in 80 words, such as 'new york', .*40 empty words"):
        result = w2v.word2vec(lines, out=str(tmp_path / "a"), **options)
    assert set(result.words) == {"new_york", "is", "big"}
    assert result.nearest("New York", 1)
    odd = Words(["new york", "a\tb\nc", "d", "长" * 700], np.eye(4, dtype=np.float32))
    for name in ("v.txt", "v.bin"):
        with pytest.warns(Notice, match="spaces in 2 words"):
            odd.save(tmp_path / name)
        binary = name.endswith("bin")
        theirs = gensim.KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=binary)
        ours = word_vectors.load(tmp_path / name)
        assert theirs.index_to_key == ours.words == ["new_york", "a_b_c", "d", "长" * 700]
        assert np.array_equal(ours.vectors, odd.vectors)
    for bad, text in ((["", "b"], "an empty word"), (["a b", "a_b"], "there already")):
        with pytest.raises(UserError, match=text):
            Words(bad, np.eye(2)).save(tmp_path / "w.txt")
    with pytest.raises(UserError, match="is a text, not a list of words"):
        w2v.word2vec(["the cat sat"], out=str(tmp_path / "b"))


@pytest.mark.parametrize("dim", [50, 300])
def test_vectors_of_others_are_read(dim, tmp_path):
    """Catches a head line asked for, a word taken for a value, and a word with spaces refused."""
    rng = np.random.default_rng(0)
    names = [*(f"w{i}" for i in range(20)), ". . .", "at name@domain.com", "naïve", "1", "\u00a0"]
    values = rng.normal(size=(len(names), dim)).astype(np.float32)
    rows = [f"{n} {' '.join(map(str, v))}" for n, v in zip(names, values.tolist(), strict=True)]
    glove, head = "\n".join(rows) + "\n", f"{len(names)} {dim}\n"
    for name, content in (
        ("glove.txt", glove.encode()),
        ("glove.txt.gz", gzip.compress(glove.encode())),
        ("crlf.txt", glove.replace("\n", "\r\n").encode()),
        ("wiki.vec", (head + " \n".join(rows) + " \n").encode()),
        ("tabs.tsv", glove.replace(" ", "\t").encode()),
    ):
        (tmp_path / name).write_bytes(content)
        result = word_vectors.load(tmp_path / name)
        assert result.words == names
        assert result.vectors == pytest.approx(values)
    with pytest.warns(Notice, match="spaces in 3 words"):
        result.save(tmp_path / "v.bin")
    (tmp_path / "v.bin.gz").write_bytes(gzip.compress((tmp_path / "v.bin").read_bytes()))
    assert word_vectors.load(tmp_path / "v.bin.gz").words[20:] == [
        "._._.", "at_name@domain.com", "naïve", "1", "_"
    ]  # fmt: skip
    for name, content, text in (
        ("cut.txt", glove[:-9].rpartition(" ")[0], "lines are not of one length"),
        ("more.vec", f"99 {dim}\n{glove}", "says 99 words, but there are 25"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=f"is damaged: .*{text}"):
            word_vectors.load(tmp_path / name)
    (tmp_path / "model.bin").write_bytes((793_712_314).to_bytes(4, "little") + b"x" * 99)
    with pytest.raises(UserError, match="is a fastText model"):
        word_vectors.load(tmp_path / "model.bin")


def test_large_files_of_vectors_fit_into_memory(tmp_path):
    """Catches every value as an object: 7 GB for GloVe's file of 1 GB."""
    rows = np.random.default_rng(0).normal(size=(1000, 100)).round(5).tolist()
    text = "\n".join(f"w{i} {' '.join(map(str, row))}" for i, row in enumerate(rows))
    (tmp_path / "glove.txt").write_text(text)
    tracemalloc.start()
    try:
        word_vectors.load(tmp_path / "glove.txt")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(text)


def test_pythons_documentation_is_always_there():
    documents = corpus.read()
    assert len(documents) > 50
    assert sum(len(p.split()) for d in documents for p in d.paragraphs) > 50_000


def test_a_tokenizer_knows_every_sign(tmp_path):
    pytest.importorskip("tokenizers")
    tokenizer = bpe.train_tokenizer(["the cat sat on the mat"] * 3, 300)
    text = "the mat – ünïcode 猫"
    (tokens,) = bpe.encode(tokenizer, [text])
    assert tokens.min() > MASK
    assert tokenizer.decode(tokens.tolist()).strip() == text
    again = bpe.open_tokenizer(tokenizer.to_str())
    assert np.array_equal(bpe.encode(again, [text])[0], tokens)
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        bpe.open_tokenizer(tmp_path / "t.json")
    with pytest.raises(UserError, match="300 to 65,536"):
        bpe.train_tokenizer(["a"], 10)
