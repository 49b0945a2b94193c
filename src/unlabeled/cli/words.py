"""`unlabeled words`: query word vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlabeled.cli.parsing import make_parser, parse_args
from unlabeled.errors import UserError

if TYPE_CHECKING:
    pass


def words_command(argv: list[str]) -> int:
    """`unlabeled words RUN --nearest WORD | --analogy A B C | --similarity F | --analogies F`."""
    parser = make_parser("words", "What word vectors know: neighbors, analogies, likeness.")
    parser.add_argument(
        "run", type=str, help="folder of `unlabeled train word2vec`, or its vectors"
    )
    parser.add_argument("--nearest", type=str, help="a word, to see those nearest to it")
    parser.add_argument(
        "--analogy", type=str, nargs=3, metavar=("A", "B", "C"), help="C is to the answer as A to B"
    )
    parser.add_argument("--similarity", type=str, help="file of pairs with people's judgement")
    parser.add_argument("--analogies", type=str, help="file of analogies, as questions-words.txt")
    parser.add_argument("--number", type=int, default=10, help="of words to show")
    given = parse_args(parser, argv)
    from unlabeled.runs import word_vectors

    asked = (given.nearest, given.analogy, given.similarity, given.analogies)
    if not any(asked):
        raise UserError("ask something: --nearest, --analogy, --similarity or --analogies")
    known = word_vectors.load(given.run)
    found: list[tuple[str, float]] = []
    if given.nearest:
        found += known.nearest(given.nearest, given.number)
    if given.analogy:
        found += known.analogy(given.analogy, given.number)
    for word, near in found:
        print(f"  {near:6.3f}  {word}")
    if given.similarity:
        told = known.similarity(word_vectors.read_pairs(given.similarity))
        print(f"Spearman's rho {told['rho']:.3f}, {100 * told['known']:.0f} % of the pairs known")
    if given.analogies:
        solved = known.analogies(word_vectors.read_analogies(given.analogies))
        solved["in all"] = tuple(map(sum, zip(*solved.values(), strict=True)))  # type: ignore[assignment]
        for name, (right, asked_of) in solved.items():
            print(f"  {100 * right / max(1, asked_of):6.2f} %  of {asked_of:6,}  {name}")
    return 0
