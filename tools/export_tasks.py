#!/usr/bin/env python3
"""Makes the golden data of `wgpt eval` under tests/golden/tasks/.

    export_tasks.py fixtures CORPORA   hellaswag-200.txt, mmlu/ and lambada-60.jsonl, short questions of the published
                                       data in CORPORA (hellaswag_val_full.txt, mmlu/, lambada_test.jsonl)
    export_tasks.py prompts            prompts.json: every wording, written from the conventions' descriptions
    export_tasks.py scores             scores.json: the demo model's log-probabilities, by transformers in float64

Set-up as in export_golden.py. The code is independent of wgpt and lm-eval: it follows the task descriptions of
lm-evaluation-harness 0.4 (lm_eval/tasks/{hellaswag,mmlu,lambada}, api/task.py, api/model.py) and of llm.c
(dev/data/{hellaswag,mmlu}.py). A second run writes the same bytes.
"""
import argparse
import csv
import hashlib
import json
import random
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TASKS = ROOT / "tests" / "golden" / "tasks"
DEMO = ROOT / "weights"
MMLU_SUBJECTS = ["astronomy", "high_school_biology", "philosophy", "world_religions", "high_school_psychology",
                 "sociology", "marketing", "nutrition"]  # two from each group
N_HELLASWAG, N_MMLU, N_LAMBADA = 200, 25, 60
GAP = 1e-3  # relative, between the sums of the two best endings: 500 times the difference seen with f32


# ---- data ---------------------------------------------------------------------------------------------------------


def hellaswag_six_lines(path):
    lines = path.read_text(encoding="utf-8").split("\n")
    return [dict(context=lines[i], gold=int(lines[i + 1]), choices=lines[i + 2:i + 6])
            for i in range(0, len(lines) - 5, 6)]


def json_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def csv_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return rows[1:] if rows[0][5] == "answer" else rows


# ---- wording ------------------------------------------------------------------------------------------------------


def hellaswag_lm_eval(doc):
    def clean(text):
        text = text.strip().replace(" [title]", ". ")
        return re.sub(r"\[.*?\]", "", text).replace("  ", " ")

    scene = doc["ctx_a"] + " " + doc["ctx_b"].capitalize()
    return dict(context=clean(doc["activity_label"] + ": " + scene), choices=[clean(e) for e in doc["endings"]],
                gold=int(doc["label"]))


def hellaswag_llmc(doc):
    return dict(context=doc["ctx"], choices=doc["endings"], gold=int(doc["label"]))


def mmlu_answer(cell):
    return "ABCD".index(cell) if cell in "ABCD" else int(cell)


def mmlu_lm_eval(row):
    options = "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCD", row[1:5]))
    return dict(context=row[0].strip() + options + "\nAnswer:", choices=list("ABCD"), gold=mmlu_answer(row[5]))


def mmlu_llmc(row):
    return dict(context=f"Question: {row[0]}\n\nAnswer:", choices=row[1:5], gold=mmlu_answer(row[5]))


def mmlu_heading(subject):
    return f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"


def lambada(doc):
    words = doc["text"].split(" ")
    return dict(context=" ".join(words[:-1]), choices=[words[-1]], gold=0)


def choices(doc):
    answer = doc["answer"]
    gold = ord(answer) - ord("A") if isinstance(answer, str) else answer
    return dict(context=doc["context"], choices=doc["choices"], gold=gold)


def shots_of(questions, n):
    return [f"{q['context']} {q['choices'][q['gold']]}\n\n" for q in questions[:n]]


def worded(task, data, convention, shots, shots_file=None):
    """The questions of a file or folder below TASKS, each with its heading and its shots."""
    path = TASKS / data
    word = {("hellaswag", "lm-eval"): hellaswag_lm_eval, ("hellaswag", "llmc"): hellaswag_llmc,
            ("mmlu", "lm-eval"): mmlu_lm_eval, ("mmlu", "llmc"): mmlu_llmc,
            ("lambada", "lm-eval"): lambada}.get((task, convention), choices)
    if task == "mmlu":
        out = []
        for file in sorted((path / "test").glob("*_test.csv"), key=lambda file: file.name[:-len("_test.csv")]):
            subject = file.name[:-len("_test.csv")]
            dev = [word(row) for row in csv_rows(path / "dev" / f"{subject}_dev.csv")] if shots else []
            heading = mmlu_heading(subject) if convention == "lm-eval" else ""
            out += [dict(word(row), heading=heading, shots=shots_of(dev, shots)) for row in csv_rows(file)]
        return out

    def read(path):
        return hellaswag_six_lines(path) if path.suffix == ".txt" else [word(doc) for doc in json_lines(path)]

    examples = shots_of(read(TASKS / shots_file), shots) if shots_file else []
    return [dict(question, heading="", shots=examples) for question in read(path)]


PROMPTS = [
    ("hellaswag", "hellaswag-raw.jsonl", "lm-eval", 0, None),
    ("hellaswag", "hellaswag-raw.jsonl", "llmc", 0, None),
    ("hellaswag", "hellaswag-raw.jsonl", "lm-eval", 2, "hellaswag-raw.jsonl"),
    ("hellaswag", "hellaswag-200.txt", "lm-eval", 0, None),
    ("mmlu", "mmlu-plain", "lm-eval", 0, None),
    ("mmlu", "mmlu-plain", "lm-eval", 2, None),
    ("mmlu", "mmlu-plain", "llmc", 0, None),
    ("mmlu", "mmlu", "lm-eval", 5, None),
    ("lambada", "lambada-60.jsonl", "lm-eval", 0, None),
    ("choices", "choices.jsonl", "lm-eval", 0, None),
    ("choices", "choices.jsonl", "lm-eval", 1, "choices.jsonl"),
    ("choices", "choices.jsonl", "llmc", 0, None),
]
WHOLE = 8  # number of questions whose text is kept; all questions are in a digest


def export_prompts():
    out = []
    for task, data, convention, shots, shots_file in PROMPTS:
        prompts = [dict(context=q["heading"] + "".join(q["shots"]) + q["context"],
                        continuations=[" " + choice for choice in q["choices"]], gold=q["gold"])
                   for q in worded(task, data, convention, shots, shots_file)]
        lines = "".join(json.dumps(p, ensure_ascii=False, separators=(",", ":")) + "\n" for p in prompts)
        out.append(dict(task=task, data=data, convention=convention, shots=shots, shots_file=shots_file,
                        n=len(prompts), sha256=hashlib.sha256(lines.encode()).hexdigest(), prompts=prompts[:WHOLE]))
    write("prompts.json", out)


def write(name, value):
    (TASKS / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print("wrote", name)


# ---- scores -------------------------------------------------------------------------------------------------------


class Model:
    """The demo model in float64."""

    def __init__(self):
        import torch
        from tokenizers import Tokenizer
        from transformers import GPT2LMHeadModel
        self.torch = torch
        self.model = GPT2LMHeadModel.from_pretrained(DEMO).double().eval()
        self.tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
        self.n_ctx = self.model.config.n_positions

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def pairs(self, question, dropped, convention):
        """(context, ending) as tokens, for each ending."""
        context = question["heading"] + "".join(question["shots"][dropped:]) + question["context"]
        out = []
        for choice in question["choices"]:
            ending = " " + choice
            if convention == "llmc":
                pair = self.encode(context), self.encode(ending)
            else:
                n = len(context.rstrip())
                ending, own = context[n:] + ending, context[:n]
                first = self.encode(own)
                pair = first, self.encode(own + ending)[len(first):]
            out.append((pair[0] or [0], pair[1]))
        return out

    def score(self, context, ending):
        """The sum of the ending's log-probabilities, and whether the ending is greedy; lm-eval cuts on the left."""
        tokens = (context + ending)[-(self.n_ctx + 1):]
        with self.torch.no_grad():
            rows = self.model(self.torch.tensor([tokens[:-1]])).logits[0, -len(ending):].log_softmax(-1)
        target = self.torch.tensor(ending)
        return rows.gather(1, target[:, None]).sum().item(), bool((rows.argmax(-1) == target).all())

    def answer(self, question, convention):
        dropped = 0
        while True:
            pairs = self.pairs(question, dropped, convention)
            longest = max(len(context) + len(ending) for context, ending in pairs)
            if longest <= self.n_ctx or dropped == len(question["shots"]):
                break
            dropped += 1
        scored = [self.score(*pair) for pair in pairs]
        sums = [score for score, _ in scored]
        lengths = [len(pair[1]) if convention == "llmc" else len(choice)
                   for pair, choice in zip(pairs, question["choices"])]
        norms = [score / length for score, length in zip(sums, lengths)]
        return dict(logprobs=sums, n_tokens=[len(ending) for _, ending in pairs], predicted=best(sums),
                    predicted_norm=best(norms), gold=question["gold"], greedy=scored[0][1], shots_dropped=dropped,
                    truncated=longest > self.n_ctx + 1, gap=min(gap(sums), gap(norms)))


def best(values):
    return max(range(len(values)), key=lambda i: (values[i], -i))


def gap(values):
    """The lead of the best ending, relative to its size."""
    first, second = sorted(values, reverse=True)[:2] if len(values) > 1 else (0, -1)
    return (first - second) / max(1, abs(first)) if len(values) > 1 else 1.0


SCORES = [
    ("hellaswag", "hellaswag-200.txt", "lm-eval", 0, None),
    ("hellaswag", "hellaswag-raw.jsonl", "lm-eval", 0, None),
    ("hellaswag", "hellaswag-raw.jsonl", "llmc", 0, None),
    ("mmlu", "mmlu", "lm-eval", 0, None),
    ("mmlu", "mmlu", "lm-eval", 5, None),
    ("mmlu", "mmlu", "llmc", 0, None),
    ("lambada", "lambada-60.jsonl", "lm-eval", 0, None),
    ("choices", "choices.jsonl", "lm-eval", 0, None),
]


def export_scores():
    model, out = Model(), []
    for task, data, convention, shots, shots_file in SCORES:
        questions = worded(task, data, convention, shots, shots_file)
        answers = [model.answer(question, convention) for question in questions]
        right = sum(a["greedy"] if task == "lambada" else a["predicted"] == a["gold"] for a in answers)
        norm = sum(a["predicted_norm"] == a["gold"] for a in answers)
        keep = ["logprobs", "n_tokens", "predicted", "predicted_norm", "greedy", "shots_dropped", "truncated"]
        print(f"{task} {data} {convention} {shots} shots: {right} and {norm} of {len(answers)}, "
              f"least gap {min(a['gap'] for a in answers):.2e}, {sum(a['shots_dropped'] for a in answers)} dropped, "
              f"{sum(a['truncated'] for a in answers)} cut")
        out.append(dict(task=task, data=data, convention=convention, shots=shots, shots_file=shots_file, right=right,
                        right_norm=norm, columns=keep,
                        answers=[[a[k] if k != "logprobs" else [float(f"{x:.9g}") for x in a[k]] for k in keep]
                                 for a in answers]))
    text = json.dumps(out)
    text = text.replace('{"task"', '\n{"task"').replace("[[[", "[\n[[").replace("], [[", "],\n[[")
    (TASKS / "scores.json").write_text(text + "\n", encoding="utf-8")
    print("wrote scores.json")


# ---- fixtures -----------------------------------------------------------------------------------------------------


def clear(model, question, conventions):
    """Whether no rounding can change an answer."""
    whole = dict(question, heading=question.get("heading", ""), shots=question.get("shots", []))
    return all(model.answer(whole, convention)["gap"] > GAP for convention in conventions)


def export_fixtures(corpora):
    model, rng = Model(), random.Random(0)
    TASKS.mkdir(exist_ok=True)
    all_questions = hellaswag_six_lines(corpora / "hellaswag_val_full.txt")
    rng.shuffle(all_questions)
    kept = []
    for q in all_questions:
        size = len(q["context"]) + sum(map(len, q["choices"]))
        if size <= 300 and len(kept) < N_HELLASWAG and clear(model, q, ["lm-eval"]):
            kept.append("\n".join([q["context"], str(q["gold"]), *q["choices"]]) + "\n")
    (TASKS / "hellaswag-200.txt").write_text("".join(kept), encoding="utf-8")
    for subject in MMLU_SUBJECTS:
        dev = csv_rows(corpora / "mmlu" / "dev" / f"{subject}_dev.csv")
        test = csv_rows(corpora / "mmlu" / "test" / f"{subject}_test.csv")
        rng.shuffle(test)
        shots, some = shots_of([mmlu_lm_eval(row) for row in dev], 5), []
        for row in test:
            if sum(map(len, row)) > 200 or len(some) == N_MMLU:
                continue
            asked = dict(mmlu_lm_eval(row), heading=mmlu_heading(subject))
            if (clear(model, asked, ["lm-eval"]) and clear(model, dict(asked, shots=shots), ["lm-eval"])
                    and clear(model, mmlu_llmc(row), ["llmc"])):
                some.append(row)
        for split, rows in [("dev", dev), ("test", some)]:
            (TASKS / "mmlu" / split).mkdir(parents=True, exist_ok=True)
            with open(TASKS / "mmlu" / split / f"{subject}_{split}.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["question", "choice0", "choice1", "choice2", "choice3", "answer"])
                writer.writerows(rows)
    passages = [line for line in (corpora / "lambada_test.jsonl").read_text(encoding="utf-8").splitlines()
                if len(line) < 330]
    rng.shuffle(passages)
    (TASKS / "lambada-60.jsonl").write_text("\n".join(passages[:N_LAMBADA]) + "\n", encoding="utf-8")
    print("wrote the fixtures")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fixtures", "prompts", "scores"])
    parser.add_argument("corpora", nargs="?", type=Path)
    args = parser.parse_args()
    if args.what == "fixtures":
        export_fixtures(args.corpora or parser.error("fixtures takes CORPORA"))
    elif args.what == "prompts":
        export_prompts()
    else:
        export_scores()
