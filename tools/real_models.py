#!/usr/bin/env python3
"""Checks the results of tools/real_models.sh against reference values. Needs no package.

    real_models.py prompts GOLDEN...     prints the number, token ids and folder of each row of logits_f64
    real_models.py judge OUT WGPT STEPS  prints the table, writes OUT/real_models.json; exit code 1 if a row failed

References: the NLLs come from transformers 4.46.3 in float32 on the same files. HellaSwag's reference is the published
acc_norm of SmolLM2-135M, 42 %, by lm-evaluation-harness.
"""
import array
import datetime
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

STORIES_NLL, STORIES_TOLERANCE, STORIES_TOKENS = 1.2962, 1e-3, 108717
WIKITEXT_NLL, WIKITEXT_TOLERANCE, WIKITEXT_TOKENS = 3.4131, 5e-3, 8 * 511
LOGITS_TOLERANCE = 2e-4
ALL_STEPS = ["stories260k", "wikitext", "france", "chat", "hellaswag", "logits"]
ACC_NORM, ACC_NORM_ERRORS = 0.42, 3  # a sample's figure is within three standard errors

SHA256 = {
    "stories260k": "466e0c32b972a2a38a21a03f323cb292e3bb86a91c06c22428270034b460488a",
    "wikitext": "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
    "hellaswag": "d572539320eb2050e858ca34b495bbe2103e3b3f1391a9c3bcdf215b0bb93bd1",
}


# --- safetensors -----------------------------------------------------------

def header(path):
    with open(path, "rb") as file:
        n = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(n)), 8 + n


def tensor(path, name):
    """The shape and the flat elements."""
    entries, start = header(path)
    entry = entries[name]
    begin, end = entry["data_offsets"]
    with open(path, "rb") as file:
        file.seek(start + begin)
        data = array.array({"F32": "f", "F64": "d", "I32": "i", "I64": "q"}[entry["dtype"]], file.read(end - begin))
    if sys.byteorder == "big":
        data.byteswap()
    return entry["shape"], data


def golden_file(folder):
    for path in sorted(Path(folder).glob("golden*.safetensors")):
        if "logits_f64" in header(path)[0]:
            return path
    raise SystemExit(f"real_models: {folder}: no golden*.safetensors holds logits_f64; name another folder")


def prompts(folders):
    for folder in folders:
        path = golden_file(folder)
        (n_rows, n, _), _ = tensor(path, "logits_f64")
        (_, stride), ids = tensor(path, "input_ids")
        for row in range(n_rows):
            tokens = ids[row * stride:row * stride + n]
            print(row, ",".join(map(str, tokens)), Path(folder).resolve())


# --- steps -----------------------------------------------------------------

class Failed(Exception):
    """A step without a figure; the message gives the reason."""


class Step:
    def __init__(self, out, name):
        self.name, self.out, self.path = name, (out / f"{name}.out").read_text(errors="replace"), out / name
        self.log = (out / f"{name}.log").read_text(errors="replace")
        code, seconds, limit, *self.arguments = (out / f"{name}.step").read_text().splitlines()
        self.code, self.seconds, self.limit = int(code), int(seconds), int(limit)

    def argument(self, flag):
        return self.arguments[self.arguments.index(flag) + 1]

    def checked(self):
        """Returns the step itself if the program succeeded."""
        verb = self.arguments[0]
        if f"unrecognized subcommand '{verb}'" in self.log:
            raise Failed(f"this program has no `wgpt {verb}`")
        if self.code in (124, 137) and self.seconds >= self.limit:
            raise Failed(f"ended by the time limit of {self.limit} s")
        if self.code > 128:
            raise Failed(f"killed by signal {self.code - 128} after {self.seconds} s, from outside or by a crash")
        if self.code != 0:
            lines = [line for line in self.log.splitlines() if line.strip()] or ["no message"]
            error = next((line for line in lines if line.startswith("error")), lines[-1])
            raise Failed(f"exit code {self.code}: {error}")
        return self

    def json(self):
        return json.loads(self.checked().out)

    def command(self):
        """The arguments, with folders reduced to their names."""
        return "wgpt " + " ".join(Path(a).name if a.startswith("/") else a for a in self.arguments)


# --- rows: (check, measured, bound, passed) --------------------------------

def nll(step, check, reference, tolerance, tokens):
    d = step.json()
    difference = d["nll"] / reference - 1
    foreign = "" if d["data_sha256"] == SHA256[step.name] else "; NOT the file of the reference"
    yield (f"{check}: NLL, {d['dtype']}", f"{d['nll']:.4f} ({difference:+.3%}){foreign}",
           f"{reference} within {tolerance:.1%}", abs(difference) <= tolerance)
    yield (f"{check}: tokens scored", str(d["tokens_scored"]), str(tokens), d["tokens_scored"] == tokens)


def france(step):
    text = step.json()["text"]
    yield "SmolLM2: 'The capital of France is'", repr(text), "begins with ' Paris'", text.startswith(" Paris")


def chat(step):
    answer = step.checked().out.strip()
    faults = list(disfluencies(answer))
    if "(cut" in step.log:
        faults.append("an answer did not end by itself")
    said = f"{len(answer.split())} words: {answer!r}"
    yield ("SmolLM2: chat, three turns by stdin", "; ".join([*faults, said]), "fluent, each ended by the model",
           not faults)
    paris, rome = answer.find("Paris"), answer.find("Rome")
    yield ("SmolLM2: chat, right and in context", f"Paris at {paris}, Rome at {rome}", "Paris, then Rome",
           0 <= paris < rome)
    reused = re.search(r"(\d+) tokens, (\d+) of them reused", step.log)
    if reused is None:
        raise Failed("/stats does not tell the tokens that were reused")
    prompt, kept = map(int, reused.groups())
    # Only the last question and its marks are new, about twenty tokens.
    yield ("SmolLM2: chat, prefix kept in the cache", f"{kept} of the last prompt's {prompt} tokens",
           "all but 40", prompt - 40 <= kept < prompt)


def disfluencies(answer):
    """The signs of garbage in a text. The table also shows the text, so that a reader can judge it."""
    words = answer.split()
    if len(words) < 15:
        yield "too short"
    if re.search(r"<\|?\w+\|?>", answer):
        yield "marks of the template"
    if not answer.endswith((".", "!", "?", '"', ")")):
        yield "no end of a sentence"
    plain = sum(c.isascii() and (c.isalnum() or c in " \n.,;:!?'\"()-") for c in answer) / max(len(answer), 1)
    if plain < 0.95:
        yield f"{1 - plain:.0%} of the characters are odd"
    fours = list(zip(words, words[1:], words[2:], words[3:]))
    if len(set(fours)) < 0.8 * len(fours):
        yield "repeats itself"


def hellaswag(step):
    d = step.json()
    asked = int(step.argument("--limit"))
    yield ("SmolLM2: HellaSwag, questions", f"{d['n']} answered, {d['n_truncated']} cut", f"{asked}, none cut",
           d["complete"] and d["n"] == asked and d["n_truncated"] == 0)

    def figure(name):
        return f"{d[name]['value']:.1%} ± {d[name]['stderr']:.1%}"

    yield "SmolLM2: HellaSwag, acc", figure("acc"), "above chance (25%)", d["acc"]["value"] > 0.25
    value, error = d["acc_norm"]["value"], d["acc_norm"]["stderr"]
    foreign = "" if d["data_sha256"] == SHA256[step.name] else "; NOT the file of the reference"
    yield ("SmolLM2: HellaSwag, acc_norm", figure("acc_norm") + foreign,
           f"{ACC_NORM:.0%} within {ACC_NORM_ERRORS} standard errors", abs(value - ACC_NORM) <= ACC_NORM_ERRORS * error)


def logits(step):
    step.checked()
    folder, row = Path(step.argument("-m")), int(step.name.rsplit("row", 1)[1])
    (_, n, n_vocab), wanted = tensor(golden_file(folder), "logits_f64")
    shape, found = tensor(step.path.with_suffix(".safetensors"), "logits")
    check = f"{folder.parent.name}/{folder.name}, row {row}: logits of {n} tokens"
    if shape != [n, n_vocab]:
        raise Failed(f"logits are {shape}, expected {[n, n_vocab]}")
    offset = row * n * n_vocab
    # `not <=`, so that a NaN is a fault.
    off = [abs(a - b) for a, b in zip(found, wanted[offset:offset + n * n_vocab])]
    worst = max(off) if all(x == x for x in off) else float("nan")
    yield check, f"off by {worst:.1e}", f"at most {LOGITS_TOLERANCE:.0e}", worst <= LOGITS_TOLERANCE


def rows(step):
    if step.name == "stories260k":
        return nll(step, "stories260k, 300 stories", STORIES_NLL, STORIES_TOLERANCE, STORIES_TOKENS)
    if step.name == "wikitext":
        return nll(step, "SmolLM2, wikitext-2", WIKITEXT_NLL, WIKITEXT_TOLERANCE, WIKITEXT_TOKENS)
    if step.name.startswith("logits_"):
        return logits(step)
    return {"france": france, "chat": chat, "hellaswag": hellaswag}[step.name](step)


# --- report ----------------------------------------------------------------

def entry(check, measured, bound, passed):
    return {"check": check, "measured": measured, "bound": bound, "passed": passed}


def judged(step):
    """The rows of a step; a step without a figure becomes a failed row."""
    checks = []
    try:
        checks += (entry(*row) for row in rows(step))
    except Failed as error:
        checks.append(entry(step.name, str(error), "a result", False))
    except (ValueError, KeyError, TypeError) as error:
        checks.append(entry(step.name, f"unexpected output: {error!r}", "a result", False))
    return checks


def results(step):
    """The program's output: JSON, or text."""
    try:
        return json.loads(step.out)
    except ValueError:
        return step.out


def report(out, wgpt, chosen):
    """All rows, and the skipped steps; writes real_models.json."""
    table, left_out, steps = [], [], []
    for kind in ALL_STEPS:
        names = sorted(path.stem for pattern in (f"{kind}.step", f"{kind}_*.step") for path in out.glob(pattern))
        if kind not in chosen:
            left_out.append(kind)
        elif not names:
            table.append(entry(kind, "no step ran", "a result", False))
        for name in names:
            step = Step(out, name)
            checks = judged(step)
            table += checks
            steps.append({"what": name, "command": step.command(), "exit_code": step.code, "seconds": step.seconds,
                          "checks": checks, "results": results(step)})
    version = subprocess.run([wgpt, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    record = {"date": datetime.date.today().isoformat(), "version": version, "devices": results(Step(out, "devices")),
              "passed": all(row["passed"] for row in table), "left_out": left_out, "steps": steps}
    (out / "real_models.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return table, left_out


def show(table, left_out):
    cells = [[row["check"], row["measured"], row["bound"], "pass" if row["passed"] else "FAIL"] for row in table]
    cells.insert(0, ["check", "measured", "bound", ""])
    # A long answer does not widen its column.
    widths = [max(len(row[i]) for row in cells if len(row[i]) <= 60) for i in range(3)]
    for row in cells:
        print("  ".join([row[3].ljust(4), row[0].ljust(widths[0]), row[2].ljust(widths[2]), row[1]]).rstrip())
    failed = sum(not row["passed"] for row in table)
    left = f"; left out, as was asked: {', '.join(left_out)}" if left_out else ""
    print(f"\n{len(table) - failed} of {len(table)} checks pass{left}")
    return failed


def main():
    if len(sys.argv) >= 3 and sys.argv[1] == "prompts":
        prompts(sys.argv[2:])
    elif len(sys.argv) == 5 and sys.argv[1] == "judge":
        sys.exit(1 if show(*report(Path(sys.argv[2]), sys.argv[3], sys.argv[4].split())) else 0)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
