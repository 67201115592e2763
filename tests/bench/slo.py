"""One scenario on the emulated cluster: what is measured before, a run under
each policy, and the figures of each run.

Latency is from the moment a frame is due to its result durably stored, all
waiting included, for every policy alike; a frame without a result is a miss.
A window is a disturbance until the static policy's backlog has cleared: the
first of STEADY frames in a row, due behind it, that are in time. Words and
definitions are those of `espalier-deploy simulate` (deploy/simulate.h).
"""
import json
import os
import sqlite3
import subprocess
import time

SLO_FACTOR = 1.3  # of the undisturbed 95th percentile
CALM_LOAD = 0.7  # of the capacity, at most, while it is measured
STEADY = 5
CAPACITY_FRAMES, CALM_S = 300, 15
POLICIES = ["static", "bottleneck", "exact"]


def scenario(deploy, path, fps):
    """The scenario as the simulator reads it, with its arrivals at that rate."""
    text = subprocess.run([deploy, "simulate", "--show", path, "--fps", str(fps)], check=True, stdout=subprocess.PIPE)
    return json.loads(text.stdout)


class Run:
    """A `run` of the cluster over its frames; events happen at their times."""

    def __init__(self, cluster, model, frames, name, options, trace=None, events=()):
        self.base = f"{cluster.folder}/{name}"
        for suffix in (".db", ".db-wal", ".db-shm", ".json"):
            if os.path.exists(self.base + suffix):
                os.remove(self.base + suffix)
        command = [cluster.deploy, "run", f"{cluster.folder}/cluster.cfg", model, frames, "--shuffle", "1", "--results",
                   self.base + ".db", "--summary", self.base + ".json", "--keys", f"{cluster.folder}/keys", "--name",
                   "runner", *options]
        self.trace = trace
        if trace:
            with open(self.base + ".trace", "w") as f:
                f.writelines(f"{t:.6f}\n" for t in trace)
            command += ["--trace", self.base + ".trace"]
        with open(self.base + ".log", "w") as log:
            self.foreign = None
            process = cluster.run(command, stdout=log, stderr=log)
            try:
                start = self.origin(process)
                before, began, workers = cluster.cpu_s(), time.time(), cluster.workers_cpu_s()
                self.play(cluster, process, events, start)
                failed = process.wait()
                busy, own = (b - a for a, b in zip(before, cluster.cpu_s()))
                self.foreign = (busy - own) / (time.time() - began)  # cores that others kept busy meanwhile
                self.cpu_s = [b - a for a, b in zip(workers, cluster.workers_cpu_s())]
                if failed:
                    raise RuntimeError(f"{name}: 'run' failed, see {self.base}.log")
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        with open(self.base + ".json") as f:
            self.summary = json.load(f)
        self.read()

    def origin(self, process):
        """The wall-clock time from which the trace counts."""
        while True:
            ended = process.poll() is not None  # what it wrote is there then
            try:
                with sqlite3.connect(f"file:{self.base}.db?mode=ro", uri=True) as db:
                    row = db.execute("SELECT started, due_ms FROM runs JOIN frames USING (run_id) ORDER BY seq").fetchone()
                if row:
                    return row[0] + row[1] * 1e-3 - (self.trace[0] if self.trace else 0)
            except sqlite3.OperationalError:
                pass  # it is not there yet
            if ended:
                raise RuntimeError(f"'run' ended before its first frame, see {self.base}.log")
            time.sleep(0.02)

    def play(self, cluster, process, events, start):
        turns = sorted([(e["from"], 1, e) for e in events] + [(e["to"], 0, e) for e in events], key=lambda t: t[:2])
        for at, begins, event in turns:
            time.sleep(max(0, start + at - time.time()))
            if process.poll() is not None:
                begins or cluster.hosts[event["host"]].end(event)
                continue
            host = cluster.hosts[event["host"]]
            host.begin(event) if begins else host.end(event)

    def read(self):
        """frames: of each, in order of due: due s, latency ms or infinite, right or None, full size."""
        with sqlite3.connect(f"file:{self.base}.db?mode=ro", uri=True) as db:
            rows = db.execute("SELECT due_ms, latency_ms, correct, levels, links, error FROM timeline ORDER BY seq").fetchall()
            self.stages = [json.loads(r[0]) for r in db.execute("SELECT stages FROM results ORDER BY seq") if r[0]]
        zero = rows[0][0] * 1e-3 - (self.trace[0] if self.trace else 0)
        self.frames = [(due * 1e-3 - zero, float("inf") if ms is None or error else ms, correct,
                        not (levels or "").replace("0", "").replace(",", "") and
                        not (links or "").replace("0:f32", "").replace("0:f16z", "").replace("0:f32z", "").replace("0:f16", "").replace(",", ""))
                       for due, ms, correct, levels, links, error in rows]
        self.plans = [(r[3], r[4]) for r in rows]


# ---- figures ----------------------------------------------------------------

def steady_from(frames, slo, i):
    """The first frame from i on that begins STEADY frames in time."""
    run = 0
    while i < len(frames) and run < STEADY:
        run = run + 1 if frames[i][1] <= slo else 0
        i += 1
    return i - run


def first_due(frames, at):
    return next((i for i, f in enumerate(frames) if f[0] >= at), len(frames))


def windows_of(events, static, slo):
    """[from, to, end] of the disturbances; `static`: frames under that policy."""
    out = []
    for begin, to in sorted((e["from"], e["to"]) for e in events):
        if out and begin <= out[-1][2]:
            out[-1][1] = max(out[-1][1], to)
        else:
            out.append([begin, to, to])
        w = out[-1]
        clear = steady_from(static, slo, first_due(static, w[1]))
        w[2] = max(w[1], static[clear][0] if clear < len(static) else static[-1][0] + 1e-9)
    return out


def percentile(sorted_values, share):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def share(frames, slo):
    return sum(f[1] <= slo for f in frames) / len(frames) if frames else None


def accuracy(frames):
    labelled = [f[2] for f in frames if f[2] is not None]
    return sum(labelled) / len(labelled) if labelled else None


def figures(run, slo, windows, seconds):
    frames = run.frames
    inside = [f for f in frames if any(w[0] <= f[0] < w[2] for w in windows)]
    outside = [f for f in frames if not any(w[0] <= f[0] < w[2] for w in windows)]
    latencies = sorted(f[1] for f in frames)
    reaction, settled, settled_s, recovery = 0, 0, 0.0, 0.0
    for k, (begin, to, end) in enumerate(windows):
        first = first_due(frames, begin)
        late = next((i for i in range(first, len(frames)) if frames[i][1] > slo), len(frames))
        if late < len(frames) and frames[late][0] < end:
            back = next((i for i in range(late, len(frames)) if frames[i][1] <= slo), len(frames))
            steady = steady_from(frames, slo, late)
            reaction, settled = max(reaction, back - first), max(settled, steady - first)
            settled_s = max(settled_s, frames[min(steady, len(frames) - 1)][0] - begin)
        until = windows[k + 1][0] if k + 1 < len(windows) else float("inf")
        pruned = [f[0] for f in frames if to <= f[0] < until and not f[3]]
        recovery = max(recovery, pruned[-1] - to if pruned else 0)
    last = max(f[0] + f[1] * 1e-3 for f in frames if f[1] < float("inf"))
    return {
        "frames": len(frames), "attainment": share(frames, slo), "inside": share(inside, slo),
        "outside": share(outside, slo), "p50_ms": percentile(latencies, .5), "p95_ms": percentile(latencies, .95),
        "p99_ms": percentile(latencies, .99), "fps": len(frames) / (last - frames[0][0]), "accuracy": accuracy(frames),
        "accuracy_inside": accuracy(inside), "reaction": reaction, "settled": settled, "settled_s": settled_s, "recovery_s": recovery,
        "switches_per_min": run.summary["switches"] / (seconds / 60), "lost": run.summary["lost"],
        "window_share": len(inside) / len(frames), "foreign_cores": run.foreign,
    }


# ---- a scenario -------------------------------------------------------------

def calibrate(cluster, model, frames, load):
    """Capacity, deadline, jitter and throttling of the undisturbed cluster. busy_ms: how long a frame keeps a
    host's share of a core, everything that its worker does included."""
    capacity = Run(cluster, model, frames, "capacity", ["--policy", "static", "--frames", str(CAPACITY_FRAMES)])
    fps = capacity.summary["fps"]
    busy = [1e3 * cpu / CAPACITY_FRAMES / (h.cpu or 1) for cpu, h in zip(capacity.cpu_s, cluster.hosts)]
    rate = min(load, CALM_LOAD) * fps
    before = [h.group.throttled() for h in cluster.hosts]
    calm = Run(cluster, model, frames, "calm", ["--policy", "static", "--frames", str(int(rate * CALM_S)), "--fps", str(rate)])
    hosts = []
    for i, host in enumerate(cluster.hosts):
        ms = sorted(s[i]["compute_ms"] for s in calm.stages if len(s) > i)
        mean = sum(ms) / len(ms)
        spread = (sum((x - mean) ** 2 for x in ms) / len(ms)) ** .5 / mean
        periods, throttled, seconds = (a - b for a, b in zip(host.group.throttled(), before[i]))
        hosts.append({"name": host.name, "busy_ms": busy[i], "compute_ms": percentile(ms, .5), "p99_ms": percentile(ms, .99),
                      "spread": spread, "periods": periods, "throttled": throttled, "throttled_s": seconds})
    return {"capacity_fps": fps, "p50_ms": calm.summary["p50_ms"], "p95_ms": calm.summary["p95_ms"],
            "slo_ms": SLO_FACTOR * calm.summary["p95_ms"], "hosts": hosts}


def measure_profiles(cluster, model):
    """NAME.json of each host under its quota, for the simulator; once a folder."""
    folder = f"{cluster.folder}/profiles"
    os.makedirs(folder, exist_ok=True)
    running = []
    for host in cluster.hosts:
        path = f"{folder}/{host.name}.json"
        if not os.path.exists(path):
            running.append((host, host.spawn([cluster.deploy, "profile", model, "-o", path, "--threads", "1", "--cpu-mask",
                                              cluster.isa])))
    for host, process in running:
        if process.wait() != 0:
            raise RuntimeError(f"{host.name}: 'profile' failed")
    return folder


def simulated(cluster, model, path, fps, slo, profiles, hosts):
    """The same scenario and policies by the simulator: {policy: figures}. It knows the undisturbed hosts: profiles,
    and of calibrate() how long a frame keeps each busy and how times vary."""
    busy = ",".join(f"{h['busy_ms']:.3f}" for h in hosts)
    spread = sum(h["spread"] for h in hosts) / len(hosts)
    text = subprocess.run([cluster.deploy, "simulate", f"{cluster.folder}/cluster.cfg", model, path, "--profiles", profiles,
                           "--fps", str(fps), "--slo-ms", str(slo), "--busy", busy, "--spread", f"{spread:.3f}", "--json"], check=True, stdout=subprocess.PIPE)
    rows = [json.loads(line) for line in text.stdout.splitlines()]
    return {row["policy"]: row for row in rows}
