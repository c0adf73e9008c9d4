"""Coverage-guided fuzzing with atheris: `python tests/fuzz/fuzz.py responses -max_total_time=60`.

The arguments after the target's name go to libFuzzer. An input that makes a target fail is written to a file `crash-*`
below `-artifact_prefix=`; pass that file as an argument to reproduce the failure.
"""

import sys
import tempfile
from pathlib import Path


def main(name, *options):
    """Fuzzes one target, starting from its seeds and dictionary."""
    import atheris  # here, so that this module can be imported without atheris

    tests = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(tests), str(tests / "knowledge")]  # the tests' own helpers
    with atheris.instrument_imports(include=["firstlib", "yaml", "json"]):
        from targets import SEEDS, TARGETS, WORDS

    with tempfile.TemporaryDirectory(prefix="first-fuzz-") as folder:
        corpus, words = Path(folder) / "corpus", Path(folder) / "words"
        corpus.mkdir()
        for number, seed in enumerate(SEEDS[name]):
            (corpus / f"seed-{number}").write_bytes(seed)
        words.write_text("".join(f'"{word}"\n' for word in sorted(WORDS[name]) if word.isidentifier()))
        given = [option for option in options if not option.startswith("-")] or [str(corpus)]
        flags = [option for option in options if option.startswith("-")]
        atheris.Setup([sys.argv[0], f"-dict={words}", "-max_len=4096", "-timeout=20", *flags, *given], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
