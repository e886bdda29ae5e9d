"""The case tables of test/cases in Python: their lines, their rows in C, the data of every operand.

test/cases/cases.h says what a line means.  Tensors are f64 or int64 (int32), batch in front.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
CASES = os.path.join(ROOT, "test", "cases")
UNIVERSAL = {"batch_second", "physical", "mean", "frozen", "no_input_grad", "ordinary", "evaluation", "allow_updates",
             "error", "error_name", "batch_size", "smooth", "f32", "bench", "reduction"}


@dataclass
class Rule:
    name: str
    role: str           # "BATCHED", "CONSTANT", "PARAMETER"
    optional: bool
    kind: str           # "REAL", "UNIT", "POSITIVE", "INTEGER"


@dataclass
class Operand:
    rule: Rule
    role: str
    kind: str
    shape: tuple
    low: int = 0
    high: int = 2
    int32: bool = False
    values: list = None
    divisor: float = 1


def preprocessed(path, *options):
    compiler = next(name for name in ("cc", "gcc", "clang") if shutil.which(name))
    return subprocess.run([compiler, "-E", "-P", "-D_GNU_SOURCE", f"-I{ROOT}/include", f"-I{ROOT}/kernels", *options,
                           path], check=True, capture_output=True, text=True).stdout


def functions_of_x():
    """The rows of activation_list.h without numbers."""
    others = ("ACTIVATION_1(name, number, rule)", "ACTIVATION_2(name, first, second, rule)",
              "ACTIVATION_OR(name, other, flag)")
    text = preprocessed(os.path.join(ROOT, "kernels", "activation_list.h"), "-DACTIVATION(name)=row name;",
                        *(f"-D{other}=" for other in others))
    return re.findall(r"row (\w+)", text)


def functions_of_two():
    """The rows of pair_list.h."""
    text = preprocessed(os.path.join(ROOT, "kernels", "pair_list.h"), "-DPAIR(name,...)=row name;")
    return re.findall(r"row (\w+)", text)


def rows():
    """{table name: [Rule, ...]} of all rows of case_list.h."""
    listed = re.findall(r"row (\w+)", preprocessed(os.path.join(CASES, "case_list.h"), "-DCASE_OP(name)=row name;"))
    found = {}
    for name in sorted(os.listdir(CASES)):
        if not name.endswith(".c"):
            continue
        text = preprocessed(os.path.join(CASES, name))
        for match in re.finditer(r"const case_op case_op_\w+ = \{\s*\"(\w+)\",(.*?)\};", text, re.S):
            rules = re.findall(r"\{\s*\"(\w+)\",\s*PSG_(\w+),\s*(\d),\s*CASE_(\w+)\s*\}", match[2])
            found[match[1]] = [Rule(rule, role, optional != "0", kind) for rule, role, optional, kind in rules]
    missing = [name for name in listed if name not in found]
    if missing:
        raise SystemExit(f"no row could be read for {missing}")
    return {name: found[name] for name in listed}


def registry():
    """The names of src/ops/op_list.h: every op of the registry."""
    text = preprocessed(os.path.join(ROOT, "src", "ops", "op_list.h"), "-DOP(name)=row name;",
                        "-DACTIVATION(name)=row name;", "-DLOSS(name)=row name;")
    return re.findall(r"row (\w+)", text)


@dataclass
class Line:
    op: str
    name: str
    operands: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    asked: set = field(default_factory=set)
    kept: object = None   # the mask that the library drew

    def flag(self, key):
        self.asked.add(key)
        return key in self.options

    def word(self, key, otherwise=None):
        self.asked.add(key)
        return self.options.get(key, otherwise)

    def int(self, key, otherwise=None):
        text = self.word(key)
        return otherwise if text is None else self.number(text)

    def real(self, key, otherwise=None):
        text = self.word(key)
        return otherwise if text is None else float(text)

    def ints(self, key, otherwise=None):
        text = self.word(key)
        return otherwise if text is None else [self.number(part) for part in text.split(",")]

    def each(self, key, otherwise, count):
        given = self.ints(key, [otherwise])
        return given * count if len(given) == 1 else given

    def number(self, text):
        return self.batch_size if text == "B" else int(text)

    @property
    def batch_size(self):
        for operand in self.operands.values():
            if operand.role == "BATCHED" and operand.shape:
                return operand.shape[0]
        return -1

    def frozen(self):
        return self.options.get("frozen", "").split(",")

    def wants_grad(self, name):
        operand = self.operands[name]
        if operand.kind == "INTEGER" or operand.role == "CONSTANT" or name in self.frozen():
            return False
        return operand.role == "PARAMETER" or "no_input_grad" not in self.options

    def check_asked(self):
        """An option that nobody reads is a mistake of the table."""
        unknown = set(self.options) - self.asked - UNIVERSAL
        if unknown:
            raise SystemExit(f"{self.op}/{self.name}: nobody reads {sorted(unknown)}")


def parse_operand(rules, text):
    name, dims, *words = text.split()
    rule = next(rule for rule in rules if rule.name == name)
    operand = Operand(rule, rule.role, rule.kind, () if dims == "()" else tuple(map(int, dims.split(","))))
    for word in words:
        if word[0] == "=":
            operand.values = [float(value) for value in word[1:].split(",")]
        elif word[0] == "<":
            operand.kind, operand.high = "INTEGER", int(word[1:])
        elif word[0] == "/":
            operand.divisor = float(word[1:])
        elif word[:2] == ">=":
            operand.low = int(word[2:])
        elif word == "f32":
            pass
        elif word in ("i32", "i64"):
            operand.kind, operand.int32 = "INTEGER", word == "i32"
        elif word in ("real", "unit", "positive"):
            operand.kind = word.upper()
        elif word in ("batched", "constant", "parameter"):
            operand.role = word.upper()
        else:
            raise SystemExit(f"unknown word {word} in {text}")
    return name, operand


def parse_line(op, rules, text):
    name, *fields = text.partition('"')[0].split("|")
    line = Line(op, name.strip())
    for part in fields[:-1]:
        key, operand = parse_operand(rules, part)
        line.operands[key] = operand
    line.operands = {rule.name: line.operands[rule.name] for rule in rules if rule.name in line.operands}
    for word in fields[-1].split():
        key, _, value = word.partition("=")
        line.options[key] = value
    return line


def read_table(op, rules):
    lines = []
    with open(os.path.join(CASES, f"{op}.txt")) as file:
        for text in file:
            text = text.split("#")[0].strip()
            if text:
                lines.append(parse_line(op, rules, text))
    return lines


# ---- data ----

MASK = (1 << 64) - 1


def seed_of(op, case, operand):
    value = 0xCBF29CE484222325
    for byte in f"{op}/{case}/{operand}".encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def words(seed, count):
    """The first count words of splitmix64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def reals(op, case, name, shape):
    drawn = (words(seed_of(op, case, name), int(np.prod(shape))) >> np.uint64(40)).astype(np.int64)
    return ((2 * drawn + 1 - 2**24) * 2.0**-24).reshape(shape)


def data_of(line, name):
    operand = line.operands[name]
    count = int(np.prod(operand.shape))
    kind = np.float64 if operand.kind != "INTEGER" else np.int32 if operand.int32 else np.int64
    if operand.values is not None:
        return np.array(operand.values).astype(kind).reshape(operand.shape)
    if operand.kind == "REAL":
        return np.asarray(reals(line.op, line.name, name, operand.shape) / operand.divisor)
    drawn = words(seed_of(line.op, line.name, name), count)
    if operand.kind == "INTEGER":
        value = (drawn % np.uint64(operand.high - operand.low)).astype(np.int64) + operand.low
        return value.astype(kind).reshape(operand.shape)
    unit = (2 * (drawn >> np.uint64(42)).astype(np.int64) + 1) * 2.0**-23
    return np.asarray((unit + (0.5 if operand.kind == "POSITIVE" else 0)).reshape(operand.shape) / operand.divisor)
