"""`unlabeled words RUN --nearest WORD`: query word vectors."""

from __future__ import annotations

from unlabeled.cli.parsing import make_parser, parse_args
from unlabeled.errors import UserError


def words_command(argv: list[str]) -> int:
    """Answer questions about word vectors."""
    parser = make_parser(
        "words", "Query word vectors: nearest neighbors, analogies and agreement with people."
    )
    parser.add_argument(
        "run", type=str, help="folder that `unlabeled train word2vec` wrote, or a file of vectors"
    )
    parser.add_argument("--nearest", type=str, metavar="WORD", help="show its nearest neighbors")
    parser.add_argument(
        "--analogy",
        type=str,
        nargs=3,
        metavar=("A", "B", "C"),
        help="show the words that are to C as B is to A",
    )
    parser.add_argument(
        "--similarity", type=str, metavar="FILE", help="pairs of words with people's ratings"
    )
    parser.add_argument(
        "--analogies",
        type=str,
        metavar="FILE",
        help="analogies in the format of questions-words.txt",
    )
    parser.add_argument("--number", type=int, default=10, help="how many words to show")
    args = parse_args(parser, argv)
    from unlabeled.runs import word_vectors

    if not any((args.nearest, args.analogy, args.similarity, args.analogies)):
        raise UserError("give at least one of --nearest, --analogy, --similarity, --analogies")
    if args.number < 1:
        raise UserError(f"--number is {args.number}, but must be at least 1")
    vectors = word_vectors.load(args.run)
    neighbors: list[tuple[str, float]] = []
    if args.nearest:
        neighbors += vectors.nearest(args.nearest, args.number)
    if args.analogy:
        neighbors += vectors.analogy(args.analogy, args.number)
    for word, cosine in neighbors:
        print(f"  {cosine:6.3f}  {word}")
    if args.similarity:
        result = vectors.similarity(word_vectors.read_pairs(args.similarity))
        print(
            f"Spearman's rho {result['rho']:.3f} on the {100 * result['known']:.0f} % of the pairs "
            "whose words have vectors"
        )
    if args.analogies:
        solved = vectors.analogies(word_vectors.read_analogies(args.analogies))
        solved["total"] = tuple(map(sum, zip(*solved.values(), strict=True)))  # type: ignore[assignment]
        for name, (right, asked) in solved.items():
            print(f"  {100 * right / max(1, asked):6.2f} %  of {asked:6,}  {name}")
    return 0
