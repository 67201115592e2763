"""Hosts emulated on this machine: each a network namespace behind a link of a
given rate (veth and a token bucket), with a share of a core (the cpu
controller's quota, cgroup v1 or v2) and a limit of memory. Needs root.

A host's link is the hop into it: the bucket sits where packets leave the
switch for the host. Link delay is not emulated (that takes netem, which not
every kernel has). Everything made here has names of its own and is taken down
again by close().
"""
import os
import re
import signal
import subprocess
import time

PERIOD_US = 5000  # of a quota: the default, 100 ms, would show as latency
LEAST_QUOTA_US = 1000
MOST_CORES = 1.5  # of all quotas together: the runner needs a core's rest
BUCKET = 8192  # bytes that pass at once
PORT = 7700
WEIGHT = {1: ("cpu.shares", 262144), 2: ("cpu.weight", 10000)}  # the most there is: hosts go before all else here


def unsupported():
    """Why no cluster can be emulated here, or None."""
    if os.geteuid() != 0:
        return "network namespaces and quotas need root"
    for tool in ("ip", "tc"):
        if not any(os.access(os.path.join(d, tool), os.X_OK) for d in os.environ["PATH"].split(":")):
            return f"no '{tool}' (Debian package iproute2)"
    if not cgroup_root("cpu"):
        return "no cgroup with a cpu controller is mounted"
    return None


def cgroup_root(controller):
    """(version, mount point) of the hierarchy that has the controller, or None."""
    found = None
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, point, kind, options = line.split()[:4]
            if kind == "cgroup" and controller in options.split(","):
                return 1, point
            if kind == "cgroup2":
                try:
                    with open(f"{point}/cgroup.controllers") as f:
                        if controller in f.read().split():
                            found = 2, point
                except OSError:
                    pass
    return found


def write(path, text):
    with open(path, "w") as f:
        f.write(str(text))


class Group:
    """A control group for one host: a share of a core, a limit of memory."""

    def __init__(self, name, cpu, memory_mb):
        self.cpu, self.folders = cpu, []
        cpu_root, memory_root = cgroup_root("cpu"), cgroup_root("memory") if memory_mb else None
        self.version = cpu_root[0]
        self.folder = self.make(cpu_root, "cpu", name)
        self.quota(cpu)
        option, weight = WEIGHT[self.version]
        write(f"{self.folder}/{option}", weight)
        if memory_root:
            folder = self.make(memory_root, "memory", name)
            limit = "memory.limit_in_bytes" if memory_root[0] == 1 else "memory.max"
            write(f"{folder}/{limit}", int(memory_mb * 2**20))

    def make(self, root, controller, name):
        version, point = root
        if version == 2:
            write(f"{point}/cgroup.subtree_control", f"+{controller}")
        folder = f"{point}/{name}"
        if folder not in self.folders:
            os.mkdir(folder)
            self.folders.append(folder)
        return folder

    def quota(self, cpu):
        """A share of a core; 0: no limit."""
        if cpu and cpu * PERIOD_US < LEAST_QUOTA_US:
            raise ValueError(f"{cpu:g} of a core is a quota of {cpu * PERIOD_US:g} us; at least {LEAST_QUOTA_US} us "
                             f"of {PERIOD_US} us can be given")
        quota = round(cpu * PERIOD_US) if cpu else -1
        if self.version == 2:
            write(f"{self.folder}/cpu.max", f"{quota if cpu else 'max'} {PERIOD_US}")
            return
        write(f"{self.folder}/cpu.cfs_quota_us", -1)
        write(f"{self.folder}/cpu.cfs_period_us", PERIOD_US)
        write(f"{self.folder}/cpu.cfs_quota_us", quota)

    def enter(self):
        """Puts the calling process into it (between fork and exec)."""
        for folder in self.folders:
            write(f"{folder}/cgroup.procs", os.getpid())

    def throttled(self):
        """(periods, periods throttled, seconds throttled) so far."""
        with open(f"{self.folder}/cpu.stat") as f:
            stat = dict(line.split() for line in f)
        seconds = int(stat["throttled_time"]) * 1e-9 if "throttled_time" in stat else int(stat["throttled_usec"]) * 1e-6
        return int(stat["nr_periods"]), int(stat["nr_throttled"]), seconds

    def close(self):
        for folder in self.folders:
            remove_group(folder)


def remove_group(folder):
    for _ in range(50):
        try:
            os.rmdir(folder)
            break
        except OSError:  # its processes are still going
            time.sleep(0.02)


def sweep():
    """Takes down what a killed run has left: names hold the number of the process that made them."""
    for controller in ("cpu", "memory"):
        root = cgroup_root(controller)
        for entry in os.listdir(root[1]) if root else ():
            if not re.fullmatch(r"esp\d+-\w+", entry) or os.path.exists("/proc/" + entry[3:entry.index("-")]):
                continue
            folder = f"{root[1]}/{entry}"
            with open(f"{folder}/cgroup.procs") as f:
                for pid in f.read().split():
                    os.kill(int(pid), signal.SIGKILL)
            remove_group(folder)
    spaces = subprocess.run(["ip", "netns", "list"], check=True, stdout=subprocess.PIPE, text=True).stdout
    for space in re.findall(r"^(esp(\d+)-\w+)", spaces, re.M):
        if not os.path.exists(f"/proc/{space[1]}"):
            subprocess.run(["ip", "netns", "del", space[0]])


class Host:
    """A worker's host: name, address, link, group, and the processes in it."""

    def __init__(self, cluster, index, wanted):
        self.cluster, self.name, self.cpu = cluster, wanted["name"], wanted["cpu"]
        self.rate_kb_s, self.address = wanted["rate_kb_s"], f"10.77.0.{index + 2}"
        self.space, self.inside, self.port = f"{cluster.id}-{index}", f"{cluster.id}i{index}", f"{cluster.id}p{index}"
        self.worker, self.neighbours = None, []
        self.group = Group(f"{cluster.id}-{index}", self.cpu, wanted["memory_mb"])
        cluster.closing.append(self.group.close)
        cluster.plug(self.space, self.inside, self.port, self.address)
        self.rate(self.rate_kb_s)

    def rate(self, kb_s):
        """Of the link into the host, 1000 bytes per second; 0: as fast as can be."""
        if not kb_s:
            return
        subprocess.run(["tc", "-n", self.cluster.switch, "qdisc", "replace", "dev", self.port, "root", "tbf", "rate",
                        f"{kb_s * 8:.0f}kbit", "burst", str(BUCKET), "latency", "400ms"], check=True)

    def spawn(self, command, **options):
        return subprocess.Popen(["ip", "netns", "exec", self.space] + command, preexec_fn=self.group.enter,
                                stdin=subprocess.DEVNULL, **options)

    def start_worker(self):
        c = self.cluster
        with open(f"{c.folder}/{self.name}.log", "ab") as log:
            self.worker = self.spawn(
                [c.deploy, "worker", "--listen", f"tcp://{self.address}:{PORT}", "--keys", f"{c.folder}/keys", "--name",
                 self.name, "--cache", f"{c.folder}/cache-{self.name}", "--threads", "1", "--cpu-mask", c.isa],
                stdout=log, stderr=log)

    def kill_worker(self):
        self.worker.send_signal(signal.SIGKILL)
        self.worker.wait()

    def begin(self, event):
        kind = event["kind"]
        if kind == "cpu":
            self.group.quota(self.cpu / event["factor"])
        elif kind == "link":
            self.rate(self.rate_kb_s / event["factor"])
        elif kind == "neighbour":
            self.neighbours = [self.spawn(["sh", "-c", "while :; do :; done"]) for _ in range(event["processes"])]
        elif kind == "death":
            self.kill_worker()

    def end(self, event):
        kind = event["kind"]
        if kind == "cpu":
            self.group.quota(self.cpu)
        elif kind == "link":
            self.rate(self.rate_kb_s)
        elif kind == "neighbour":
            self.stop_neighbours()
        elif kind == "death":
            self.start_worker()

    def stop_neighbours(self):
        for process in self.neighbours:
            process.kill()
            process.wait()
        self.neighbours = []


class Cluster:
    """The hosts of a scenario (as `espalier-deploy simulate --show` tells it),
    with a worker on each. `folder` keeps keys, caches, logs and the cluster cfg."""

    def __init__(self, scenario, folder, deploy, isa, prefix=()):
        """`prefix`: a command that each measured run is started through."""
        self.folder, self.deploy, self.isa, self.prefix, self.closing = folder, deploy, isa, list(prefix), []
        sweep()
        self.id = f"esp{os.getpid()}"
        self.switch, self.runner = f"{self.id}-switch", f"{self.id}-run"
        cores = sum(h["cpu"] for h in scenario["hosts"])
        if cores > MOST_CORES + 1e-6:
            raise ValueError(f"the hosts' quotas sum to {cores:g} cores; at most {MOST_CORES} can be emulated")
        for event in scenario["events"]:
            host = scenario["hosts"][event["host"]]
            if event["kind"] == "cpu" and host["cpu"] / event["factor"] * PERIOD_US < LEAST_QUOTA_US - 1e-6:
                raise ValueError(f"{host['name']}: {host['cpu']:g} of a core divided by {event['factor']:g} is less "
                                 f"than the quota of {LEAST_QUOTA_US} us in {PERIOD_US} us that can be given")
        os.makedirs(folder, exist_ok=True)
        try:
            self.build(scenario)
        except BaseException:
            self.close()
            raise

    def build(self, scenario):
        self.space(self.switch)
        self.ip("-n", self.switch, "link", "add", "sw", "type", "bridge")
        self.ip("-n", self.switch, "link", "set", "sw", "up")
        self.group = Group(f"{self.id}-run", 0, 0)
        self.closing.append(self.group.close)
        self.plug(self.runner, f"{self.id}ir", f"{self.id}pr", "10.77.0.1")
        self.hosts = [Host(self, i, h) for i, h in enumerate(scenario["hosts"])]
        names = ["runner"] + [h.name for h in self.hosts]
        if not os.path.exists(f"{self.folder}/keys/{names[-1]}.key"):
            subprocess.run([self.deploy, "keygen", *names, "-o", f"{self.folder}/keys"], check=True,
                           stdout=subprocess.DEVNULL)
        with open(f"{self.folder}/cluster.cfg", "w") as f:
            for h in self.hosts:
                if h.rate_kb_s:
                    f.write(f"[link]\nrate_kb_s={h.rate_kb_s:g}\n")
                f.write(f"[worker]\nname={h.name}\naddress=tcp://{h.address}:{PORT}\n")
        for h in self.hosts:
            h.start_worker()

    def ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True)

    def space(self, name):
        self.ip("netns", "add", name)
        self.closing.append(lambda: subprocess.run(["ip", "netns", "del", name]))
        self.ip("-n", name, "link", "set", "lo", "up")

    def plug(self, space, inside, port, address):
        """A namespace on the switch."""
        self.space(space)
        self.ip("-n", space, "link", "add", inside, "type", "veth", "peer", "name", port, "netns", self.switch)
        self.ip("-n", space, "addr", "add", f"{address}/24", "dev", inside)
        self.ip("-n", space, "link", "set", inside, "up")
        self.ip("-n", self.switch, "link", "set", port, "master", "sw", "up")

    def run(self, command, **options):
        """A process where the runner is: on the switch, without limits."""
        return subprocess.Popen(self.prefix + ["ip", "netns", "exec", self.runner] + command, stdin=subprocess.DEVNULL,
                                preexec_fn=self.group.enter, **options)

    def cpu_s(self):
        """CPU time used on this machine so far, and of it by the workers that run and by processes waited for."""
        tick = os.sysconf("SC_CLK_TCK")
        with open("/proc/stat") as f:
            user, nice, system, _, _, irq, softirq, steal = map(int, f.readline().split()[1:9])
        own = sum(self.workers_cpu_s())
        mine = os.times()
        own += mine.user + mine.system + mine.children_user + mine.children_system
        return (user + nice + system + irq + softirq + steal) / tick, own

    def workers_cpu_s(self):
        """CPU time that each host's present worker has used so far."""
        used = []
        for host in self.hosts:
            with open(f"/proc/{host.worker.pid}/stat") as f:
                used.append(sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK"))
        return used

    def close(self):
        for host in getattr(self, "hosts", []):
            host.stop_neighbours()
            if host.worker and host.worker.poll() is None:
                host.kill_worker()
        while self.closing:
            self.closing.pop()()
