"""Rows of tokens for train_curve.py and examples/train_curve.rs, of texts that Graft has cut into tokens.

    cat demo/train/stage_verse.txt README.md docs/*.md > all.txt
    graft tokenize -m MODEL.gguf --no-special --plain --json -f all.txt | python tests/reference/train_rows.py --seq 256 --rows 100 > rows.jsonl

Standard input: objects {"tokens"}, one a line or one for all. They are put one behind the other and cut into rows of --seq tokens, all of
which are learnt; what is left over at the end is not used. --rows of them are taken, evenly spread over all, and shuffled by --seed.
"""

import argparse
import json
import random
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    tokens = [t for line in sys.stdin if line.strip() for t in json.loads(line)["tokens"]]
    rows = [tokens[i : i + args.seq] for i in range(0, len(tokens) - args.seq + 1, args.seq)]
    assert len(rows) >= args.rows, f"{len(rows)} rows of {args.seq} tokens: too few"
    rows = [rows[i * len(rows) // args.rows] for i in range(args.rows)]
    random.Random(args.seed).shuffle(rows)
    for row in rows:
        print(json.dumps({"tokens": row, "learn": [True] * len(row)}))


if __name__ == "__main__":
    main()
