#!/usr/bin/env python3
"""Every scenario on the emulated cluster under every policy: figures, plots, and
the targets beside them.

  tests/bench/slo_table.py [SCENARIO...]    run these (all of them), print and plot
  tests/bench/slo_table.py --table          print from finished rows

A row is one line of tests/bench/results/slo.jsonl, a scenario under a policy; a
new run replaces it. Without --model a network is trained first (an hour or so).
Needs root, and data/cifar10 (data/cifar10.sh).
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
from importlib.machinery import SourceFileLoader

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import emulation

cluster = SourceFileLoader("cluster", f"{HERE}/cluster").load_module()
ROOT = cluster.ROOT
RESULTS = f"{HERE}/results/slo.jsonl"
# Each with the policies it is run under, and whether the oracle bounds it.
SCENARIOS = {
    "throttling": ["static", "bottleneck", "exact"], "fading": ["static", "bottleneck", "exact"],
    "neighbour": ["static", "bottleneck", "exact"], "burst": ["static", "bottleneck", "exact", "oracle"],
    "death": ["static", "bottleneck", "exact", "oracle"], "all": ["static", "bottleneck", "exact", "oracle"],
    "saturation": ["static", "bottleneck", "exact"], "steady": ["exact"],
}


# ---- rows -------------------------------------------------------------------

def load():
    if not os.path.exists(RESULTS):
        return []
    with open(RESULTS) as f:
        return [json.loads(line) for line in f]


def keep(new):
    rows = [r for r in load() if not any(r["scenario"] == n["scenario"] and r["policy"] == n["policy"] for n in new)]
    with open(RESULTS + ".new", "w") as f:
        f.writelines(json.dumps(tidy(r)) + "\n" for r in rows + new)
    os.replace(RESULTS + ".new", RESULTS)


def tidy(value):
    """Four digits are enough."""
    if isinstance(value, float):
        return None if value == float("inf") else float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: tidy(v) for k, v in value.items()}
    return [tidy(v) for v in value] if isinstance(value, list) else value


# ---- targets ----------------------------------------------------------------

def targets(scenario, by):
    """(what, reached, wanted, whether) of a scenario's rows {policy: row}."""
    static, exact, oracle = by.get("static"), by.get("exact"), by.get("oracle")
    if scenario in ("throttling", "fading", "neighbour") and static and exact:
        missed = [1 - r["attainment"] for r in (static, exact)]
        lost = 100 * (static["accuracy"] - exact["accuracy"])
        filled = static["window_share"]
        yield "static attains inside, %", 100 * static["inside"], "<= 30", static["inside"] <= .3
        yield "windows fill of the run, %", 100 * filled, "40 to 60", .4 <= filled <= .6
        yield "exact attains inside, %", 100 * exact["inside"], ">= 90", exact["inside"] >= .9
        yield "exact attains outside, %", 100 * exact["outside"], ">= 95", exact["outside"] >= .95
        yield "misses over static's", missed[1] / max(missed[0], 1e-9), "<= 0.25", missed[1] <= missed[0] / 4
        yield "accuracy lost over the run, points", lost, "<= 1", lost <= 1
        yield "reaction, frames", exact["reaction"], "<= 10", exact["reaction"] <= 10
    if scenario in ("burst", "death", "all") and exact and oracle:
        gap = 100 * (oracle["attainment"] - exact["attainment"])
        yield "below the oracle, points", gap, "<= 5", gap <= 5
    if scenario == "saturation" and static and exact:
        gain = exact["fps"] / static["fps"]
        yield "throughput over static's", gain, ">= 2", gain >= 2
    if scenario == "steady" and exact:
        yield "switches a minute", exact["switches_per_min"], "0", exact["switches_per_min"] == 0
    if exact and exact.get("simulated"):
        off = 100 * abs(exact["simulated"]["attainment"] - exact["attainment"])
        yield "simulated attainment off by, points", off, "<= 10", off <= 10


def print_table(rows):
    for scenario in SCENARIOS:
        by = {r["policy"]: r for r in rows if r["scenario"] == scenario}
        if not by:
            continue
        first = next(iter(by.values()))
        calm = first["calm"]
        print(f"\n== {scenario}: capacity {calm['capacity_fps']:.1f} frames/s, SLO {calm['slo_ms']:.1f} ms; model "
              f"{os.path.basename(first['model'])}")
        for h in calm["hosts"]:
            print(f"   {h['name']}: undisturbed {h['compute_ms']:.1f} ms a frame, spread {100 * h['spread']:.0f}%, throttled "
                  f"in {h['throttled']} of {h['periods']} periods")
        cluster.print_table(list(by.items()) + [(f" simulated", r["simulated"]) for r in by.values() if r.get("simulated")])
        for what, value, wanted, good in targets(scenario, by):
            print(f"   {'reached' if good else 'MISSED ':8} {what:38} {value:8.2f}   wanted {wanted}")


# ---- plots ------------------------------------------------------------------

def plot(folder, scenario, policies, rows):
    """Latency and level of every frame against time."""
    limit, windows = rows[0]["calm"]["slo_ms"], rows[0]["windows"]
    script = ["set terminal pngcairo size 1200,800 font 'sans,11'", f"set output '{folder}/{scenario}.png'",
              f"set multiplot layout 2,{len(policies)} title '{scenario}: disturbed while shaded'", "set grid lc rgb '#dddddd'"]
    for k, w in enumerate(windows):
        script.append(f"set object {k + 1} rectangle from first {w[0]},graph 0 to first {w[1]},graph 1 fc rgb '#f2d7d5' "
                      "fs solid 0.5 noborder behind")
    data = "select (due_ms-(select min(due_ms) from frames))/1000.0, latency_ms, replace(levels,',',' ') from timeline where latency_ms is not null order by seq"
    for policy in policies:
        text = subprocess.run(["sqlite3", "-separator", " ", f"{folder}/{scenario}-{policy}.db", data], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
        with open(f"{folder}/{scenario}-{policy}.dat", "w") as f:
            f.write(text)
    script += ["set logscale y", "set yrange [1:20000]", "set ylabel 'latency, ms'"]
    script += [f"set title '{p}'\nplot '{folder}/{scenario}-{p}.dat' using 1:2 with dots notitle, {limit} with lines dt 2 "
               "lc rgb 'black' notitle" for p in policies]
    script += ["unset logscale y", "set yrange [-0.5:6.5]", "set ylabel 'level'", "set xlabel 'time, s'", "set title ''"]
    script += ["plot " + ", ".join(f"'{folder}/{scenario}-{p}.dat' using 1:{c + 3} with steps title 'h{c + 1}'" for c in range(3))
               for p in policies]
    with open(f"{folder}/{scenario}.gnuplot", "w") as f:
        f.write("\n".join(script) + "\n")
    subprocess.run(["gnuplot", f"{folder}/{scenario}.gnuplot"], check=True)
    print(f"{folder}/{scenario}.png")


def train(path):
    """The default network of the table."""
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        subprocess.run([f"{ROOT}/build/espalier-train", "train", "data/cifar10.data", "cfg/resnet20.cfg", "-o", path], check=True,
                       cwd=ROOT, env=dict(os.environ, OMP_WAIT_POLICY="passive"))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--model", help="a model trained on CIFAR-10")
    parser.add_argument("--frames", default=f"{ROOT}/data/cifar10/test")
    parser.add_argument("--isa", default="ref", help="the workers' kernels (%(default)s: plain C, so that computing is the work)")
    parser.add_argument("--prefix", default="", help="a command that each measured run is started through")
    parser.add_argument("-o", "--output", default=f"{ROOT}/build/bench/slo", help="folder to work in (%(default)s)")
    a = parser.parse_args()
    unknown = [s for s in a.scenarios if s not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {unknown[0]}: there are {', '.join(SCENARIOS)}")
    why = None if a.table else emulation.unsupported()
    if why:
        print(f"SKIP bench-slo: {why}")
        return 0
    for scenario in [] if a.table else a.scenarios or SCENARIOS:
        model = a.model or train(f"{a.output}/resnet20.safetensors")
        done = cluster.run_scenario(f"{HERE}/scenarios/{scenario}.cfg", model, a.frames, a.output,
                                    f"{ROOT}/build/espalier-deploy", a.isa, SCENARIOS[scenario], a.prefix.split())
        command = f"tests/bench/slo_table.py {scenario} --model {shlex.quote(os.path.basename(model))} --isa {a.isa}"
        rows = [{"scenario": scenario, "policy": p, "model": os.path.basename(model), **row, "command": command} for p, row in done]
        keep(rows)
        plot(a.output, scenario, SCENARIOS[scenario], rows)
    print_table([r for r in load() if not a.scenarios or r["scenario"] in a.scenarios])
    return 0


if __name__ == "__main__":
    sys.exit(main())
