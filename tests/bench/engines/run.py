#!/usr/bin/python3
"""Our engine beside XNNPACK, oneDNN, OpenBLAS (im2col and sgemm) and PyTorch as
Debian has them, on the same networks at 224x224, batch 1, float32, in the same
run: on one core and on all, in turns, as ratios of medians.

    tests/bench/engines/run.py [--build DIR] [--rounds N] [--only NETWORK] [--threads N,...]

The libraries compute every distinct convolutional and connected layer of the
network, packed weights and layouts made beforehand, with a ReLU where that costs
nothing; what is shown is the sum over all layers, beside the time of the same
layers within our network (which holds batch norm, bias, activation and shortcuts,
too). PyTorch runs the whole network, beside ours: batch norm folded, frozen and
optimised by TorchScript, in the better of its memory formats. A ratio above 1:
we are faster. Each library's output is checked before it is timed.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
NETWORKS = ['vgg-16', 'tv-resnet18', 'tv-resnet50', 'mobilenet', 'mobilenetv2']
MULTIARCH = subprocess.run(['gcc', '-print-multiarch'], capture_output=True, text=True).stdout.strip()
BLAS = 'openblas-pthread'
# name: Debian's packages, how to link
LIBRARIES = {
    'xnnpack': (['libxnnpack-dev', 'libpthreadpool-dev'], ['-lXNNPACK', '-lpthreadpool']),
    'onednn': (['libdnnl-dev'], ['-ldnnl', '-fopenmp']),
    'openblas': (['libopenblas-pthread-dev'],
                 ['-I/usr/include/%s/%s' % (MULTIARCH, BLAS), '-L/usr/lib/%s/%s' % (MULTIARCH, BLAS), '-lopenblas']),
}
TORCH = (['python3-torch'], None)
TURN_S = 0.25  # of each engine in each round


def install(name, packages):
    """Whether Debian has them, and they are installed."""
    for package in packages:
        policy = subprocess.run(['apt-cache', 'policy', package], capture_output=True, text=True).stdout
        if not re.search(r'Candidate: [^(\s]', policy):
            print('%s: SKIP: there is no package %s here' % (name, package))
            return False
    done = subprocess.run([ROOT / 'tests/packages.sh', *packages])
    if done.returncode != 0:
        print('%s: SKIP: %s cannot be installed' % (name, ' '.join(packages)))
        return False
    versions = subprocess.run(['dpkg-query', '-W', '-f', '${Package} ${Version}  ', *packages], capture_output=True,
                              text=True).stdout
    print('%s: %s' % (name, versions.strip()))
    return True


def build(build_dir):
    """Commands of the engines, by name; those of a library take a list of layers, the others a cfg."""
    out = pathlib.Path(build_dir) / 'bench-engines'
    out.mkdir(parents=True, exist_ok=True)
    common = ['gcc', '-std=c11', '-O3', '-march=native', '-Wall', '-Wextra']
    engines = {}
    for name, (packages, link) in LIBRARIES.items():
        if not install(name, packages):
            continue
        subprocess.check_call([*common, HERE / (name + '.c'), HERE / 'engine.c', '-o', out / name, *link, '-lm', '-lpthread'])
        engines[name] = [str(out / name)]
    if install('pytorch', TORCH[0]):
        engines['pytorch'] = ['/usr/bin/python3', str(HERE / 'torch_run.py')]
    engines['espalier'] = [str(pathlib.Path(build_dir) / 'bench/engines/espalier')]
    return engines


def layers_of(cfg, build_dir):
    """Distinct convolutional and connected layers, and how often each is there."""
    info = json.loads(subprocess.check_output([build_dir + '/espalier-deploy', 'info', '--json', cfg]))
    found = collections.OrderedDict()
    for layer in info['layers']:
        c, h, w = layer['in']
        if layer['kind'] == 'connected':
            key = (1, c * h * w, 1, 1, layer['out'][0], 1, 1, 0, 1)
        elif layer['kind'] == 'convolutional':
            key = (0, c, h, w, layer['out'][0], layer['size'], layer['stride'], layer['pad'], layer['conv_groups'])
        else:
            continue
        found[key] = found.get(key, 0) + 1
    return found


class Engine:
    """A program that waits until it is asked for a number of passes."""

    def __init__(self, command, argument, threads, environment):
        self.name = command[-1]
        self.process = subprocess.Popen(
            ['taskset', '-c', '0-%d' % (threads - 1), *command, argument, str(threads)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=environment)
        self.read('ready')
        began = time.perf_counter()
        self.ask(1)
        self.passes = max(1, min(200, int(TURN_S / (time.perf_counter() - began))))

    def read(self, expected=None):
        line = self.process.stdout.readline().strip()
        if not line or (expected and line != expected):
            sys.exit('%s has failed' % self.name)
        return line

    def ask(self, passes):
        self.process.stdin.write('%d\n' % passes)
        self.process.stdin.flush()
        return [float(x) for x in self.read().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def environment_of(name):
    environment = dict(os.environ)
    # OpenBLAS knows the processors of its day; on a later one with AVX-512 it would use its kernels for AVX2.
    if name == 'openblas' and 'avx512vl' in open('/proc/cpuinfo').read():
        environment.setdefault('OPENBLAS_CORETYPE', 'SKYLAKEX')
    return environment


def measure(engines, cfg, layers, threads, rounds, folder):
    listing = folder + '/layers'
    with open(listing, 'w') as file:
        file.writelines(' '.join(map(str, layer)) + '\n' for layer in layers)
    running = {name: Engine(command, listing if name in LIBRARIES else cfg, threads, environment_of(name))
               for name, command in engines.items()}
    samples = {name: [] for name in running}
    names = list(running)
    for r in range(rounds):
        for k in range(len(names)):
            name = names[(r + k) % len(names)]
            samples[name].append(running[name].ask(running[name].passes))
            time.sleep(.02)  # until the threads of this one have stopped to spin
    for engine in running.values():
        engine.close()
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in samples.items()}
    for name in LIBRARIES:
        if name in medians:
            medians[name] = [sum(ms * count for ms, count in zip(medians[name], layers.values()))]
    return medians


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = len(os.sched_getaffinity(0))
    p.add_argument('--build', default=str(ROOT / 'build/release'))
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--only', choices=NETWORKS)
    p.add_argument('--threads', default='1' if cores == 1 else '1,%d' % cores)
    a = p.parse_args()
    engines = build(a.build)
    others = [name for name in engines if name in LIBRARIES]
    print('\n%-12s %7s %24s' % ('', '', 'espalier, ms') + ''.join('%18s' % (name + ', ms') for name in others) +
          ('%18s' % 'pytorch, ms' if 'pytorch' in engines else ''))
    print('%-12s %7s %11s %12s' % ('network', 'threads', 'network', 'its layers') +
          ''.join('%11s %6s' % ('its layers', 'ratio') for _ in others) +
          ('%11s %6s' % ('network', 'ratio') if 'pytorch' in engines else ''))
    for network in [a.only] if a.only else NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            cfg = folder + '/' + network + '.cfg'
            text = re.sub(r'(?m)^(width|height) *= *\d{3,}$', r'\1=224', (ROOT / 'cfg' / (network + '.cfg')).read_text())
            pathlib.Path(cfg).write_text(text)
            layers = layers_of(cfg, a.build)
            for threads in map(int, a.threads.split(',')):
                ms = measure(engines, cfg, layers, threads, a.rounds, folder)
                whole, ours = ms['espalier']
                row = '%-12s %7d %11.3f %12.3f' % (network, threads, whole, ours)
                for name in others:
                    row += '%11.3f %6.2f' % (ms[name][0], ms[name][0] / ours)
                if 'pytorch' in ms:
                    row += '%11.3f %6.2f' % (min(ms['pytorch']), min(ms['pytorch']) / whole)
                print(row, flush=True)


main()
