#!/usr/bin/python3
"""What bounds the kernels' inner loops on the Pis' cores, by llvm-mca.

    mca.py CC FLAGS... -- SOURCE...

Compiles each source for aarch64 to assembly, takes from every function the
innermost loop with the most vector multiply-adds, and prints cycles per
iteration beside the least that its multiply-adds need: one 4-lane FMLA a cycle
on the Cortex-A72 (Pi 4), two on the Cortex-A76 (Pi 5, by LLVM's model of the
Neoverse N1, the same core family; its cortex-a76 is the A57's). L1 hits are assumed: llvm-mca
knows no caches. Functions with fewer than MIN multiply-adds in their loop are
left out: edges of maps run them.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

CORES = (("cortex-a72", ("llvm-mca-19", "llvm-mca"), 1.0), ("neoverse-n1", ("llvm-mca-19",), 0.5))
MIN = int(os.environ.get("MIN", "32"))
GOAL = 0.85


def functions(text):
    """(name, lines) of each function of an assembly file."""
    name, lines = None, []
    for line in text.splitlines():
        match = re.match(r"([A-Za-z_][\w.]*):", line)
        if match:
            name, lines = match.group(1), []
        elif re.match(r"\s+\.size\s", line):
            if name:
                yield name, lines
            name = None
        elif name:
            lines.append(line)


def is_fma(line):
    return re.match(r"\s+fml[as]\s+v\d+\.4s", line) is not None


def hot_loop(lines):
    """The innermost loop with the most multiply-adds: its lines, from label to branch back."""
    labels, best = {}, []
    for i, line in enumerate(lines):
        match = re.match(r"(\.L\w+):", line)
        if match:
            labels[match.group(1)] = i
        match = re.match(r"\s+(?:b\.?\w+|cbn?z|tbn?z)\s.*?(\.L\w+)\s*$", line)
        if match and match.group(1) in labels:
            body = lines[labels[match.group(1)] + 1 : i + 1]
            inner = not any(re.match(r"\.L\w+:", l) for l in body)
            if inner and sum(map(is_fma, body)) > sum(map(is_fma, best)):
                best = body
    return best


def cycles(tool, core, loop):
    """Cycles of one iteration in the steady state."""
    with tempfile.NamedTemporaryFile("w", suffix=".s") as f:
        f.write("\n".join(l for l in loop if not re.match(r"\s+\.", l)) + "\n")
        f.flush()
        total = []
        for n in (100, 300):
            out = subprocess.run([tool, "-mtriple=aarch64-linux-gnu", "-mcpu=" + core, "-iterations=%d" % n,
                                  "-all-views=0", "-summary-view", f.name], capture_output=True, text=True, check=True)
            total.append(int(re.search(r"Total Cycles:\s+(\d+)", out.stdout).group(1)))
    return (total[1] - total[0]) / 200


def main(argv):
    at = argv.index("--")
    compiler, sources = argv[:at], argv[at + 1 :]
    cores = []
    for core, tools, each in CORES:
        tool = next((t for t in tools if shutil.which(t)), None)
        if tool:
            cores.append((core, tool, each))
        else:
            print("SKIP: %s: needs %s" % (core, tools[0]))
    print("%-44s %6s" % ("loop", "fmla") + "".join("  %11s cycles  of bound" % c[0] for c in cores))
    short = 0
    for source in sources:
        assembly = subprocess.run(compiler + ["-S", "-o", "-", source], capture_output=True, text=True, check=True).stdout
        for name, lines in functions(assembly):
            loop = hot_loop(lines)
            count = sum(map(is_fma, loop))
            if count < MIN:
                continue
            row = "%-44s %6d" % (name, count)
            for core, tool, each in cores:
                c = cycles(tool, core, loop)
                share = count * each / c
                short += share < GOAL
                row += "  %18.1f  %7.1f%%" % (c, 100 * share)
            print(row)
    print("%d of them below %.0f%%" % (short, 100 * GOAL))


main(sys.argv[1:])
