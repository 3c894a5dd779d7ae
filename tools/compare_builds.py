#!/usr/bin/env python3
"""Compares two builds of wgpt: a refactoring must leave results the same bit for bit.

    tools/compare_builds.py OLD NEW [--quick] [--wording] [--only REGEX] [--json FILE] [-j N]

OLD and NEW are two programs. Both run the same commands with all verbs, on every golden model and on the demo model,
untuned and without a cache. Options have the spelling of OLD's help. Logits and saved sessions are compared by their
bytes, JSON by its structure and the digits of its numbers, text and messages by lines. Exit codes are compared too. The
comparison ignores only DROPPED_FIELDS, DROPPED_TEXT and SORTED_LISTS of tools/builds/differ.py: times, rates, dates,
versions, memory of the process.

INTENDED lists the intended differences with their reasons; each is printed once. Help and completions may differ, with
--wording also prose whose numbers are the same; these differences are reported. The exit code is 1 for any other
difference, and if OLD ends with an exit code that the case does not expect. A case that differs is run again, up to
ROUNDS times. --json FILE writes the full list.

The first run on a software adapter takes minutes longer, because its driver compiles all kernels. Later runs use the
driver's cache.
"""
import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from builds.case import Case, Outcome, Step, run_case
from builds.cases import all_cases
from builds.differ import Difference, compare_step


@dataclass(frozen=True)
class Intended:
    """Intended differences. A difference is one of them if all three patterns match."""

    # The whole verb, such as "generate" or "bench model".
    verb: str
    # A part of the place: "exit", "stdout", "stderr", "file NAME"; for JSON and tensors the path follows.
    where: str
    # A part of the old and of the new line or value; an absent pattern matches everything.
    line: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        if not re.fullmatch(self.verb, difference.verb) or not re.search(self.where, difference.where):
            return False
        lines = (line for line in (difference.old, difference.new) if line is not None)
        return all(re.search(self.line, line) for line in lines)


# From 5b5c4fc to the three packages wgpt, wgpt-eval and wgpt-cli.
INTENDED: list[Intended] = [
    Intended(".*", r"\.warnings(\[|$)", "", "the new field `warnings` has the warnings of the engine"),
    Intended(".*", r"\.kernel_hash$", "", "the hash of the kernels' sources, which are rearranged"),
    Intended("eval", r"shots", "", "`n_short_of_shots` replaces `n_shots_dropped` and `shots_dropped`"),
    Intended("inspect", r"\$\.block\.", "[a-z]", "plainer words for the parts of a layer"),
    Intended("profile|bench kernels", r"\.variant$", "", "names of variants list the new fragments"),
    Intended("doctor", r"\.message$", "[a-z]", "plainer words"),
    Intended("doctor", r"\.program\.kernels$", "^'[0-9a-f]{16}'$", "the hash of the kernels' sources, which are rearranged"),
    Intended("doctor|bench kernels", r"^stdout$", "kernels [0-9a-f]{16}", "that hash, in text"),
    Intended("inspect", r"^exit$", "^[04]$", "a model that does not fit --memory-budget is an error"),
    Intended("inspect", r"^std(out|err)$", "budget", "that error, in place of a line of the report"),
    Intended("curve", r"file .*\.svg$", "", "plainer words in the picture"),
    Intended("bench plot", r"^stderr$", "next release|not JSON", "-o FILE is the one spelling of the file to write"),
    Intended("generate", r"^stderr$", "running on a software adapter", "sessions are checked before the device is opened"),
    Intended("bench model|perplexity", r"^stderr$", "nothing to (measure|score)", "the error names the accepted values"),
    Intended("perplexity", r"file page\.html", "", "plainer words in the page"),
]

# Runs of a case before a difference counts. The engine cuts prompts and the head's matrix by measured costs. On a busy
# machine the cuts may differ and select other kernels, whose last bits differ. So each build may have several outcomes,
# and one of NEW's must be one of OLD's. A difference that comes from the code occurs in every run.
ROUNDS = 5
# Lines of a case's differences that are printed; --json has all.
SHOWN = 12


@dataclass
class Result:
    """The comparison of a case."""

    case: Case
    n_steps: int = 0
    # More than one: the first runs differed.
    rounds: int = 1
    # Unexpected differences, with the commands.
    failed: list[tuple[list[str], Difference]] = field(default_factory=list)
    reported: list[tuple[list[str], Difference]] = field(default_factory=list)
    intended: list[tuple[Intended, list[str], Difference]] = field(default_factory=list)
    # OLD ended in a way that the case does not expect.
    broken: list[str] = field(default_factory=list)


# Output of these verbs is text of the model.
MODEL_TEXT = ("generate", "chat")


def same_numbers(found: list[Difference]) -> bool:
    """Returns whether lines of prose differ only in their words."""
    def numbers(lines) -> Counter:
        return Counter(number for line in lines if line is not None for number in re.findall(r"\d+(?:\.\d+)?", line))

    return numbers(difference.old for difference in found) == numbers(difference.new for difference in found)


def reword(step: Step, judged: list[tuple[Intended | str, Difference]]) -> list[tuple[Intended | str, Difference]]:
    """Turns failures of a stream into reports if only words of prose differ."""
    for stream in ("stdout", "stderr"):
        if stream == "stdout" and step.verb in MODEL_TEXT:
            continue
        lines = [difference for verdict, difference in judged if verdict == "failed" and difference.where == stream]
        others = [difference for difference in lines if not same_numbers([difference])]
        # A text may also be split into other lines.
        reworded = lines if same_numbers(others) else [difference for difference in lines if difference not in others]
        judged = [("reported" if difference in reworded else verdict, difference) for verdict, difference in judged]
    return judged


def judge(step: Step, difference: Difference) -> Intended | str:
    """Returns the intention, "reported" or "failed"."""
    for intended in INTENDED:
        if intended.covers(difference):
            return intended
    # An exit code is not wording, so it must not differ.
    return "reported" if step.report and difference.where != "exit" else "failed"


def closest(
    step: Step, before: list[Outcome], after: list[Outcome], wording: bool
) -> list[tuple[Intended | str, Difference]]:
    """Takes pairs of runs, one of each build. Returns the judged differences of the pair with the fewest failures."""
    pairs = (compare_step(step, a, b) for a in before for b in after)
    judged = [[(judge(step, difference), difference) for difference in found] for found in pairs]
    if wording:
        judged = [reword(step, found) for found in judged]
    return min(judged, key=lambda found: sum(verdict == "failed" for verdict, _ in found))


def compare_case(old: Path, new: Path, case: Case, folder: Path, wording: bool) -> Result:
    """Runs both builds, and again if they differ."""
    before, after = [], []
    for _ in range(ROUNDS):
        before.append(run_case(old, old, case, folder))
        after.append(run_case(old, new, case, folder))
        steps = list(zip(case.steps, zip(*before), zip(*after)))
        found = [closest(*step, wording) for step in steps]
        if all(verdict != "failed" for judged in found for verdict, _ in judged):
            break
    result = Result(case, len(case.steps), rounds=len(before))
    for (step, outcomes, _), judged in zip(steps, found):
        command = [word.replace("@", "") for word in step.args]
        for verdict, difference in judged:
            if isinstance(verdict, Intended):
                result.intended.append((verdict, command, difference))
            else:
                (result.reported if verdict == "reported" else result.failed).append((command, difference))
        for outcome in outcomes:
            if outcome.code not in step.codes:
                said = next((line for line in outcome.stderr.splitlines() if line.startswith("error:")), "no error")
                expected = " or ".join(map(str, step.codes))
                result.broken.append(f"OLD {' '.join(step.args)}: exit code {outcome.code}, not {expected}: {said}")
                break
    return result


def print_differences(found: list[tuple[list[str], Difference]]) -> None:
    for _, entries in groupby(found[:SHOWN], key=lambda entry: entry[0]):
        entries = list(entries)
        command = " ".join(entries[0][0])
        print(f"    wgpt {command if len(command) <= 150 else command[:150] + '...'}")
        for _, difference in entries:
            print(f"      {difference.where}")
            for sign, line in (("-", difference.old), ("+", difference.new)):
                if line is not None:
                    print(f"        {sign} {line[:300]}")
    if len(found) > SHOWN:
        print(f"      and {len(found) - SHOWN} more")


def print_group(group: str, results: list[Result], seconds: float) -> None:
    """Prints the progress of a group and its unexpected differences."""
    steps, failed = sum(result.n_steps for result in results), sum(bool(result.failed) for result in results)
    others = {"differ as meant": sum(bool(result.intended) for result in results),
              "differ in wording": sum(bool(result.reported) for result in results),
              "the same only when repeated": sum(result.rounds > 1 and not result.failed for result in results),
              "broken": sum(bool(result.broken) for result in results)}
    state = f"{failed} DIFFER" if failed else "identical" if not any(others.values()) else "no other difference"
    more = "".join(f", {n} {what}" for what, n in others.items() if n)
    print(f"{group:42} {len(results):3} cases {steps:4} runs {seconds:6.1f} s  {state}{more}")
    for result in results:
        if result.rounds > 1 and not result.failed:
            print(f"  {result.case.name}: OLD and NEW agree in one of {result.rounds} runs")
        for line in result.broken:
            print(f"  {result.case.name}: {line[:400]}")
        if result.failed:
            print(f"  {result.case.name}: differs")
            print_differences(result.failed)
    sys.stdout.flush()


def print_summary(results: list[Result], seconds: float) -> None:
    by_intention: dict[Intended, list] = defaultdict(list)
    for result in results:
        for intended, command, difference in result.intended:
            by_intention[intended].append((command, difference))
    if by_intention:
        print("\nintended differences")
        for intended, found in by_intention.items():
            print(f"  {intended.reason} ({len(found)} places), for one:")
            print_differences(found[:1])
    for unused in (intended for intended in INTENDED if intended not in by_intention):
        print(f"  note: nothing differs as INTENDED has it: {unused.reason}")
    worded = Counter(result.case.name for result in results for _ in result.reported)
    if worded:
        print("\nhelp, completions and prose that differ (lines): " + ", ".join(f"{name} {n}" for name, n in worded.items()))
    differs = sum(bool(result.failed) for result in results)
    broken = sum(bool(result.broken) for result in results)
    print(f"\n{len(results)} cases, {sum(result.n_steps for result in results)} runs of each build in {seconds:.0f} s: "
          f"{len(results) - differs} as before, {differs} differ, {broken} broken")


def write_json(path: Path, results: list[Result]) -> None:
    def entry(command: list[str], difference: Difference) -> dict:
        return {"command": command, **asdict(difference)}

    report = [{
        "group": result.case.group, "case": result.case.name, "runs": result.n_steps, "rounds": result.rounds,
        "broken": result.broken,
        "failed": [entry(*found) for found in result.failed],
        "reported": [entry(*found) for found in result.reported],
        "intended": [entry(command, difference) | {"reason": intended.reason}
                     for intended, command, difference in result.intended],
    } for result in results]
    path.write_text(json.dumps(report, indent=1) + "\n")


def program(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is no program: build it with cargo build --release")
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", type=program, help="the build to compare with")
    parser.add_argument("new", metavar="NEW", type=program, help="the build that must do the same")
    parser.add_argument("--quick", action="store_true", help="fewer cases, all verbs and models")
    parser.add_argument("--wording", action="store_true", help="prose may differ in words if its numbers are the same")
    parser.add_argument("--only", metavar="REGEX", help="only cases where `group: name` matches")
    parser.add_argument("--json", metavar="FILE", type=Path, help="writes all results to FILE")
    parser.add_argument("-j", metavar="N", dest="jobs", type=int, default=1, help="cases at a time [default: 1]")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    cases = [case for case in all_cases(args.old) if case.quick or not args.quick]
    if args.only:
        cases = [case for case in cases if re.search(args.only, f"{case.group}: {case.name}")]
    if not cases:
        print("error: no case is left", file=sys.stderr)
        return 2
    results: list[Result] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wgpt-builds-") as place, ThreadPoolExecutor(args.jobs) as pool:
        for group, of_group in groupby(cases, key=lambda case: case.group):
            since = time.monotonic()
            listed = list(of_group)
            # Both builds get the same paths, which occur in messages.
            folders = (Path(place) / str(len(results) + i) for i in range(len(listed)))
            found = list(pool.map(lambda pair: compare_case(args.old, args.new, *pair, args.wording), zip(listed, folders)))
            print_group(group, found, time.monotonic() - since)
            results += found
    print_summary(results, time.monotonic() - begin)
    if args.json:
        write_json(args.json, results)
    return int(any(result.failed or result.broken for result in results))


if __name__ == "__main__":
    sys.exit(main())
