"""The comparison of two runs."""
import csv
import difflib
import io
import re
import struct
from dataclasses import dataclass

from builds.case import Outcome, Step, decode
from builds.formats import Number, describe_values, read_json, read_safetensors, read_session

# (path of a field, reason). The fields' values are replaced by their types. The existence of a field and the length of
# a list are still compared. `[]` stands for any index.
DROPPED_FIELDS = [
    (r"\.(version|wgpt_version|wgpt)$", "version of the program"),
    (r"\.test_time$|^\$\.time$", "date of the run"),
    (r"_(ns|us|ms|ts)(\[\])?$", "measured time or rate"),
    (r"_(ns|us)_per_token$", "measured time"),
    (r"^\$\.(cost\.|benchmark\.)?seconds$", "measured time"),
    (r"per_second$|_per_s$", "measured rate"),
    (r"\.(percent|roofline_percent)$", "share of a measured time"),
    (r"\.bound$", "side of the measured roofline"),
    (r"\.peak_host_bytes$", "memory of the process"),
    (r"^\$\.operations\[\]\.(chosen|gain)$|^\$\.operations\[\]\.timed\[\]\.n_samples$", "choice by measured times"),
    (r"^\$(\.traceEvents)?\[\]\.(ts|dur)$", "measured time"),
]
# (verb, path of a list, keys): lists in the order of measured times. They are sorted by the names of the measurements.
SORTED_LISTS = [
    ("profile", r"\.kernels$|^\$$", ("step", "kernel", "workgroups", "variant")),
    ("tune", r"\.timed$", ("variant",)),
]
# (verb, part of a line, its replacement, reason), for text and stderr.
DROPPED_TEXT = [
    (".*", r"\bwgpt \d+\.\d+\.\d+\S*", "wgpt VERSION", "version of the program"),
    (".*", r"\d[\d.]* (tok/s|tokens/s)", r"RATE \1", "measured rate"),
    (".*", r"\bload [\d.]+ m?s", "load TIME", "measured time"),
    ("chat", r"^(time to first token|tokens (?:a|per) second) .*", r"\1 MEASURED", "measured time or rate"),
    ("eval", r"^time  .*", "time MEASURED", "measured time"),
    ("eval", r"\b[\d.]+ (m?s|min)\b", "TIME", "measured time"),
    ("doctor|bench kernels", r"\b\d{4}-\d\d-\d\dT[\d:]+Z", "DATE", "date of the run"),
    ("bench kernels", r"(GB/s|GFLOP/s) \(\w+\)", r"\1 (FASTEST)", "probe that was the fastest"),
]
# In text of kind "timed", every decimal and every number with a unit of time is a measurement. Column widths depend on
# them.
TIMED_TEXT = [
    (r"(?<![\d.])\d[\d.]* (ns|us|ms|s)\b", "TIME"),
    (r"(?<![\d.])\d+(\.\d+e-?\d+|e-?\d+|\.\d+)(?![\d.])", "#"),
    (r"-{2,}", "--"),
    (r" +", " "),
]
CSV_DECIMAL = re.compile(r"-?\d+\.\d+(e-?\d+)?|\d+")


@dataclass(frozen=True)
class Difference:
    """One place where two runs differ; `old` or `new` is None if only the other run has it."""

    verb: str
    # "exit", "stdout", "stderr" or "file NAME", for JSON with the path of the field.
    where: str
    old: str | None
    new: str | None


def drop_fields(value, path: str = "$"):
    """Returns the value of a JSON document with the DROPPED_FIELDS replaced."""
    if isinstance(value, dict):
        return {key: drop_fields(entry, f"{path}.{key}") for key, entry in value.items()}
    if isinstance(value, list):
        return [drop_fields(entry, f"{path}[]") for entry in value]
    if any(re.search(pattern, path) for pattern, _ in DROPPED_FIELDS):
        # A rate is null if a time was below the resolution of the clock.
        return Number("MEASURED") if value is None or isinstance(value, Number) else type(value).__name__
    return value


def sort_lists(verb: str, value, path: str = "$"):
    """Returns the value with the SORTED_LISTS in a fixed order."""
    if isinstance(value, dict):
        return {key: sort_lists(verb, entry, f"{path}.{key}") for key, entry in value.items()}
    if isinstance(value, list):
        entries = [sort_lists(verb, entry, f"{path}[]") for entry in value]
        for of_verb, pattern, keys in SORTED_LISTS:
            if of_verb == verb and re.search(pattern, path) and all(isinstance(entry, dict) for entry in entries):
                entries.sort(key=lambda entry: [str(entry.get(key, "")) for key in keys])
        return entries
    return value


def show(value) -> str:
    text = value if isinstance(value, Number) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def json_differences(old, new, path: str = "$"):
    """Yields (path, old, new) of each place where two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            inner = f"{path}.{key}"
            if key not in new:
                yield inner, show(old[key]), None
            elif key not in old:
                yield inner, None, show(new[key])
            else:
                yield from json_differences(old[key], new[key], inner)
    elif isinstance(old, list) and isinstance(new, list):
        for i, (a, b) in enumerate(zip(old, new)):
            yield from json_differences(a, b, f"{path}[{i}]")
        for i in range(len(new), len(old)):
            yield f"{path}[{i}]", show(old[i]), None
        for i in range(len(old), len(new)):
            yield f"{path}[{i}]", None, show(new[i])
    # True == 1 in Python, so types are compared first. Number itself distinguishes Number and str.
    elif type(old) is not type(new) or old != new:
        yield path, show(old), show(new)


def clean_text(verb: str, text: str, timed: bool) -> list[str]:
    lines = text.splitlines()
    for of_verb, pattern, replacement, _ in DROPPED_TEXT:
        if re.fullmatch(of_verb, verb):
            lines = [re.sub(pattern, replacement, line) for line in lines]
    if timed:
        for pattern, replacement in TIMED_TEXT:
            lines = [re.sub(pattern, replacement, line) for line in lines]
        if verb == "profile":
            # Rows are in order of measured times.
            lines.sort()
    return lines


def text_differences(old: list[str], new: list[str]):
    """Yields (old, new) lines; a changed line has both."""
    if old == new:
        return
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            continue
        if i2 - i1 == j2 - j1:
            yield from zip(old[i1:i2], new[j1:j2])
        else:
            yield from ((line, None) for line in old[i1:i2])
            yield from ((None, line) for line in new[j1:j2])


def read_csv(verb: str, text: str):
    rows = [dict(row) for row in csv.DictReader(io.StringIO(text))]
    numbers = [
        {k: Number(v) if isinstance(v, str) and CSV_DECIMAL.fullmatch(v) else v or None for k, v in row.items()}
        for row in rows
    ]
    return numbers


def content_differences(verb: str, kind: str, old: str, new: str):
    """Yields (place, old, new) for two texts of one kind."""
    if kind in ("json", "csv"):
        read = read_json if kind == "json" else lambda text: read_csv(verb, text)
        try:
            pair = [drop_fields(sort_lists(verb, read(text))) for text in (old, new)]
        except ValueError:
            pair = None
        if pair is not None:
            yield from json_differences(*pair)
            return
    lines = [clean_text(verb, text, kind == "timed") for text in (old, new)]
    for a, b in text_differences(*lines):
        yield "", a, b


def tensor_differences(old: bytes, new: bytes):
    (old_metadata, old_tensors), (new_metadata, new_tensors) = read_safetensors(old), read_safetensors(new)
    yield from json_differences(drop_fields(old_metadata), drop_fields(new_metadata), "$.__metadata__")
    for name in old_tensors | new_tensors:
        a, b = old_tensors.get(name), new_tensors.get(name)
        if a is None or b is None:
            yield name, *("present" if tensor else None for tensor in (a, b))
        elif (a.dtype, a.shape) != (b.dtype, b.shape):
            yield name, f"{a.dtype} {list(a.shape)}", f"{b.dtype} {list(b.shape)}"
        elif a.content != b.content:
            yield name, "the values of OLD", describe_values(a, b)


def session_differences(old: bytes, new: bytes):
    (old_format, old_header, old_rest), (new_format, new_header, new_rest) = read_session(old), read_session(new)
    if old_format != new_format:
        yield "format", str(old_format), str(new_format)
    yield from json_differences(drop_fields(old_header), drop_fields(new_header))
    if old_rest != new_rest:
        yield "tokens and pages", f"{len(old_rest)} bytes", f"{len(new_rest)} bytes, others"


def file_differences(verb: str, kind: str, old: bytes, new: bytes):
    if old == new:
        return
    binary = {"safetensors": tensor_differences, "session": session_differences}
    try:
        if kind in binary:
            yield from binary[kind](old, new)
        else:
            yield from content_differences(verb, kind, decode(old), decode(new))
    except (ValueError, KeyError, struct.error) as error:
        yield "", "a readable file", f"cannot compare: {error}"


def compare_step(step: Step, old: Outcome, new: Outcome) -> list[Difference]:
    """Returns all differences of two runs of a step."""
    verb = step.verb
    found = []
    if old.code != new.code:
        found.append(Difference(verb, "exit", str(old.code), str(new.code)))
    # The stdout of a failed run is text in every format.
    kind = step.out if old.code == new.code else "text"
    for place, a, b in content_differences(verb, kind, old.stdout, new.stdout):
        found.append(Difference(verb, f"stdout {place}".strip(), a, b))
    for place, a, b in content_differences(verb, "timed" if step.out == "timed" else "text", old.stderr, new.stderr):
        found.append(Difference(verb, f"stderr {place}".strip(), a, b))
    for name, file_kind in step.files.items():
        a, b = old.files[name], new.files[name]
        if a is None or b is None:
            if a is not b:
                found.append(Difference(verb, f"file {name}", *("written" if file else None for file in (a, b))))
            continue
        for place, left, right in file_differences(verb, file_kind, a, b):
            found.append(Difference(verb, f"file {name} {place}".strip(), left, right))
    return found
