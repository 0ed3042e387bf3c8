"""What a GPU will execute: the machine code of a cubin, taken apart with nvdisasm. Needs no GPU."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass

_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", re.MULTILINE)
_LABEL = re.compile(r"^(\.L_x_\d+):")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_REGISTER = re.compile(r"\bR(\d+)\b")


@dataclass(frozen=True)
class Code:
    """The instructions of a kernel, in order, and the positions of its labels."""

    instructions: tuple[str, ...]
    labels: dict[str, int]

    def having(self, *names: str) -> list[str]:
        """The instructions whose name, with its suffixes, matches one of the patterns at its beginning."""
        return [i for i in self.instructions if any(re.match(name, operation(i)) for name in names)]

    @property
    def registers(self) -> int:
        return 1 + max(int(r) for i in self.instructions for r in _REGISTER.findall(i))

    def longest_path(self) -> list[str]:
        """The instructions from the beginning to an end, on the way that has most, each loop taken once."""
        count = len(self.instructions)
        length, after = [0] * (count + 1), [count] * (count + 1)
        for k in range(count - 1, -1, -1):
            instruction = self.instructions[k]
            name, always = operation(instruction), not instruction.startswith("@")
            following = [k + 1]
            if name.startswith(("EXIT", "RET")):
                following = [] if always else [k + 1]
            elif name.startswith("BRA"):
                target = _TARGET.search(instruction)
                ahead = [self.labels[target[1]]] if target is not None and self.labels[target[1]] > k else []
                following = ahead if always else [*ahead, k + 1]
            after[k] = max(following, key=lambda n: length[n], default=count)
            length[k] = 1 + length[after[k]]
        path, k = [], 0
        while k < count:
            path.append(self.instructions[k])
            k = after[k]
        return path


KINDS = {
    "add, mul, fma": ("FADD", "FMUL", "FFMA", "DADD", "DMUL", "DFMA"),
    "compare, select": ("FSETP", "FSEL", "FMNMX", "ISETP", "SEL", "IMNMX", "VIMNMX", "PLOP3", "DSETP"),
    "integer": ("IADD3", "LEA", "SHF", "LOP3", "IMAD", "PRMT"),
    "tables": ("LDS",),
    "special": ("MUFU",),
}


def kinds(instructions: list[str]) -> dict[str, int]:
    """How many instructions there are of each kind; the last kind is everything else."""
    names = [operation(i).split(".")[0] for i in instructions]
    found = {kind: sum(name in members for name in names) for kind, members in KINDS.items()}
    return {**found, "other": len(names) - sum(found.values())}


def operation(instruction: str) -> str:
    """The name of an instruction without its predicate: ``LDG.E.128``."""
    return re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0]


def disassemble(cubin: bytes) -> Code:
    """The machine code of the kernel in a cubin; FileNotFoundError without nvdisasm."""
    from cuda.pathfinder import find_nvidia_binary_utility

    program = find_nvidia_binary_utility("nvdisasm")
    if program is None:
        raise FileNotFoundError("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([program, "-c", file.name], capture_output=True, text=True, check=True).stdout
    start = text.index(".section\t.text.")
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in text[start:].splitlines():
        label = _LABEL.match(line)
        if label is not None:
            labels[label[1]] = len(instructions)
            continue
        found = _INSTRUCTION.match(line)
        if found is not None and operation(found[1]) != "NOP":
            instructions.append(found[1])
    return Code(tuple(instructions), labels)
