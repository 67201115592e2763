#!/usr/bin/python3
"""Training speed beside PyTorch's: the same network, batch and optimiser in
both, in alternation. Each round runs `espalier-train bench` and torch_steps.py
(eager, in both of its memory formats) once, in an order that rotates; what is
shown are medians over the rounds, PyTorch in the better format.

    tests/bench/train/run.py [--precision f32|bf16] [--rounds N] [--only NAME] [--smoke]

Rows are appended to tests/bench/results/train.jsonl, except those of --smoke,
which runs two steps of everything.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
RESULTS = HERE.parent / 'results' / 'train.jsonl'
# cfg, batch, steps of a round
NETWORKS = {
    'resnet20': ('cfg/resnet20.cfg', 128, 25),
    'vgg16': ('cfg/vgg16-cifar.cfg', 128, 10),
    'resnet18': ('cfg/tv-resnet18.cfg', 16, 10),
}
FORMATS = ['contiguous', 'channels_last']


def run(command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit('%s: status %d\n%s' % (' '.join(command), done.returncode, done.stderr))
    return json.loads(done.stdout)


def espalier(cfg, batch, steps, a):
    command = ['build/espalier-train', 'bench', cfg, '--batch', str(batch), '--steps', str(steps),
               '--threads', str(a.threads), '--json']
    return run(command + (['--precision', a.precision] if a.precision != 'f32' else []))


def torch(cfg, batch, steps, a, layout):
    return run(['/usr/bin/python3', str(HERE / 'torch_steps.py'), cfg, '--batch', str(batch), '--steps', str(steps),
                '--threads', str(a.threads), '--format', layout, '--precision', a.precision])


def compare(name, a):
    cfg, batch, steps = NETWORKS[name]
    if a.smoke:
        steps = 2
    turns = [('espalier', lambda: espalier(cfg, batch, steps, a))]
    turns += [(f, lambda f=f: torch(cfg, batch, steps, a, f)) for f in FORMATS]
    runs = {who: [] for who, _ in turns}
    for r in range(a.rounds):
        for k in range(len(turns)):
            who, turn = turns[(r + k) % len(turns)]
            print('%s: round %d of %d, %s' % (name, r + 1, a.rounds, who), file=sys.stderr)
            runs[who].append(turn())
    ours, theirs = runs['espalier'][0], runs[FORMATS[0]][0]
    for key in 'parameters', 'multiply_adds':
        if ours[key] != theirs[key]:
            sys.exit('%s: the two networks differ: %s %.0f and %.0f' % (name, key, ours[key], theirs[key]))
    speed = {who: [x['images_per_s'] for x in list_] for who, list_ in runs.items()}
    memory = {who: statistics.median(x['peak_mib'] for x in list_) for who, list_ in runs.items()}
    better = max(FORMATS, key=lambda f: statistics.median(speed[f]))
    ratios = [o / t for o, t in zip(speed['espalier'], speed[better])]
    return {
        'network': name, 'cfg': cfg, 'batch': batch, 'precision': a.precision, 'threads': a.threads,
        'rounds': a.rounds, 'steps': steps,
        'images_per_s': {who: [round(x, 2) for x in list_] for who, list_ in speed.items()},
        'torch_format': better, 'ratio': round(statistics.median(ratios), 3),
        'ratio_min': round(min(ratios), 3), 'ratio_max': round(max(ratios), 3),
        'peak_mib': {who: round(x, 1) for who, x in memory.items()},
        'memory_ratio': round(memory['espalier'] / min(memory[f] for f in FORMATS), 3),
        'peak_gflops': round(statistics.median(x['peak_gflops'] for x in runs['espalier']), 1),
        'torch': theirs['torch'],
    }


def machine():
    models = [line.split(':', 1)[1].strip() for line in open('/proc/cpuinfo') if line.startswith('model name')]
    return {'cpu': models[0] if models else platform.machine(), 'cores': len(os.sched_getaffinity(0))}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--precision', choices=['f32', 'bf16'], default='f32')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--threads', type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument('--only', choices=NETWORKS)
    p.add_argument('--smoke', action='store_true')
    a = p.parse_args()
    if a.smoke:
        a.rounds = 1
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    print('%-9s %5s %-9s %22s %22s %7s %15s %18s' % ('network', 'batch', 'precision', 'espalier, images/s',
                                                    'PyTorch, images/s', 'ratio', 'of the rounds', 'peak memory, MiB'))
    for name in [a.only] if a.only else NETWORKS:
        row = compare(name, a)
        speed = {who: statistics.median(list_) for who, list_ in row['images_per_s'].items()}
        print('%-9s %5d %-9s %22.1f %22s %7.2f %15s %18s' % (
            name, row['batch'], a.precision, speed['espalier'],
            '%.1f %s' % (speed[row['torch_format']], row['torch_format']), row['ratio'],
            '%.2f to %.2f' % (row['ratio_min'], row['ratio_max']),
            '%.0f : %.0f' % (row['peak_mib']['espalier'], min(row['peak_mib'][f] for f in FORMATS))), flush=True)
        if a.smoke:
            continue
        row.update(machine(), commit=commit, date=datetime.date.today().isoformat(), command=' '.join(sys.argv))
        RESULTS.parent.mkdir(exist_ok=True)
        with open(RESULTS, 'a') as file:
            file.write(json.dumps(row) + '\n')


main()
