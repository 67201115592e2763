#!/usr/bin/env python3
"""Latency while the clock of the cores moves: a model that stays as it is
against one that goes by the clock (predict --steady).

    tests/bench/steady.py            print the table from finished rows
    tests/bench/steady.py run        measure (root, three minutes), add rows, then print

A clock is emulated by a quota of CPU time: 1800 MHz is all of a core, 600 a
third of it, in periods of 3 ms; a folder like Linux's cpufreq tells it, and obeys when
`profile --frequencies` sets it. The clock moves every some frames, up, down and at random. Linux looks at quotas
at its ticks, every 4 ms or so, and lets what ran too long pause for longer: frames have to be long against that,
or the emulation's own jitter is all there is to see.

Environment: MODEL (a model file; else an untrained vgg16-cifar for images of SIDE, 192), ISA (sse2, for long frames),
FRAMES (6, at each clock), REPEATS (6, of the profile), DEPLOY, TRAIN.

Paper: All-in-One, arXiv 2212.05122. Target: a coefficient of variation of at most 6%.
"""
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import emulation
import rows

CLOCKS = [600, 900, 1200, 1500, 1800]
VISITS = 3  # of each clock
RESULTS = 'tests/bench/results/steady.jsonl'
ISA = os.environ.get('ISA', 'sse2')
FRAMES = int(os.environ.get('FRAMES', 6))
REPEATS = os.environ.get('REPEATS', '6')
SIDE = int(os.environ.get('SIDE', 192))
KNOBS = ['MODEL', 'ISA', 'FRAMES', 'REPEATS', 'SIDE']
emulation.PERIOD_US = 3000  # the least in which a third of a core can be given


class Clock:
    """A core whose clock is a quota, told and set through `folder`."""

    def __init__(self, folder):
        self.folder = f'{folder}/cpu0/cpufreq'
        os.makedirs(self.folder)
        self.group = emulation.Group(f'esp{os.getpid()}-clock', 0, 0)
        emulation.write(f'{self.folder}/scaling_min_freq', CLOCKS[0] * 1000)
        emulation.write(f'{self.folder}/scaling_max_freq', CLOCKS[-1] * 1000)
        self.mhz, self.done = 0, False
        self.set(CLOCKS[-1])
        self.thread = threading.Thread(target=self.obey)
        self.thread.start()

    def set(self, mhz):
        if mhz == self.mhz:
            return
        self.group.quota(mhz / CLOCKS[-1] if mhz < CLOCKS[-1] else 0)
        emulation.write(f'{self.folder}/new', int(mhz * 1000))
        os.replace(f'{self.folder}/new', f'{self.folder}/scaling_cur_freq')
        self.mhz = mhz

    def obey(self):
        """The limits, when somebody sets them: the clock follows the most."""
        before = None
        while not self.done:
            with open(f'{self.folder}/scaling_max_freq') as file:
                most = file.read().strip()
            if most and before and most != before:
                self.set(int(most) / 1000)
            before = most or before
            time.sleep(.002)

    def close(self):
        self.done = True
        self.thread.join()
        self.group.close()


def model_file(folder):
    """MODEL, or VGG-16 for CIFAR-10 at SIDE x SIDE pixels, untrained, which is as fast as trained."""
    if 'MODEL' in os.environ:
        return os.environ['MODEL']
    if not os.path.isdir('data/cifar10'):
        rows.fail('no data/cifar10; data/cifar10.sh fetches it')
    model = f'{folder}/vgg16-cifar-{SIDE}'
    with open('cfg/vgg16-cifar.cfg') as cfg, open(f'{folder}/vgg16-64.cfg', 'w') as larger:
        larger.write(cfg.read().replace('width=32', f'width={SIDE}').replace('height=32', f'height={SIDE}'))
    rows.run([rows.TRAIN, 'train', rows.DATA, f'{folder}/vgg16-64.cfg', '-o', model, '--epochs', '0', '--threads', '1',
              '--calibrate-uniform', '1', '--calibrate-mixed', '0', '--measure-plans', '0', '--batch', '8', '--hold-out', '0'])
    return model


def course():
    """Clocks in the order in which they come: each VISITS times, never the same twice running."""
    order = CLOCKS + CLOCKS[::-1][1:]
    draw = random.Random(1)
    while any(order.count(c) < VISITS for c in CLOCKS):
        order.append(draw.choice([c for c in CLOCKS if c != order[-1] and order.count(c) < VISITS] or
                                 [c for c in CLOCKS if c != order[-1]]))
    return order


def play(clock, command, image):
    """Milliseconds of every frame, with its clock; those during which the clock moved belong to the new one."""
    order = course()
    clock.set(order[0])
    process = subprocess.Popen(['stdbuf', '-oL'] + command + [image] * (FRAMES * len(order)), stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, preexec_fn=clock.group.enter)
    frames = []
    for i, mhz in enumerate(order):
        clock.set(mhz)
        for k in range(FRAMES):
            line = json.loads(process.stdout.readline())
            frames.append({'mhz': mhz, 'ms': line['ms'], 'levels': line.get('levels'),
                           'expected': line.get('expected_ms'), 'first': k == 0 and i > 0})
    process.stdout.close()
    if process.wait():
        rows.fail('predict failed')
    return frames


def cv(ms):
    return round(100 * statistics.pstdev(ms) / statistics.mean(ms), 2)


def summary(frames):
    ms = [f['ms'] for f in frames if not f['first']]
    return {'cv': cv(ms), 'mean_ms': round(statistics.mean(ms), 3),
            'cv_of_medians': cv([statistics.median(f['ms'] for f in frames if f['mhz'] == c) for c in CLOCKS]),
            'cv_within': round(statistics.mean(cv([f['ms'] for f in frames if f['mhz'] == c and not f['first']]) for c in CLOCKS), 2),
            'cv_with_moves': cv([f['ms'] for f in frames]),
            'clocks': {c: {'ms': round(statistics.median(f['ms'] for f in frames if f['mhz'] == c), 3),
                           'expected': statistics.median(f['expected'] or 0 for f in frames if f['mhz'] == c),
                           'levels': next(f['levels'] for f in reversed(frames) if f['mhz'] == c)} for c in CLOCKS}}


def measure():
    why = emulation.unsupported()
    if why:
        rows.fail(f'SKIP: {why}')
    with tempfile.TemporaryDirectory() as folder:
        model, image = model_file(folder), os.environ.get('IMAGE') or draw_image(folder)
        clock = Clock(f'{folder}/cpu')
        try:
            common = ['--threads', '1', '--cpu-mask', ISA, '--cpufreq', f'{folder}/cpu']
            print('profile: ' + ', '.join(f'{c} MHz' for c in CLOCKS), file=sys.stderr)
            profile = [rows.DEPLOY, 'profile', model, '--frequencies', ','.join(map(str, CLOCKS)), '-o',
                       f'{folder}/profile.json', '--repeats', REPEATS] + common
            subprocess.run(profile, check=True, stderr=subprocess.DEVNULL, preexec_fn=clock.group.enter)
            predict = [rows.DEPLOY, 'predict', model, '--json'] + common
            fixed = summary(play(clock, predict, image))
            steady = summary(play(clock, predict + ['--steady', f'{folder}/profile.json'], image))
        finally:
            clock.close()
        row = {'model': os.path.basename(model), 'isa': ISA, 'frames': FRAMES * len(course()), 'fixed': fixed,
               'steady': steady, 'command': ' '.join([f'{k}={os.path.basename(os.environ[k])}' for k in KNOBS if k in os.environ] +
                                   ['tests/bench/steady.py run'])}
        if 'MODEL' in os.environ:  # one that is trained: what there would be without levels is its full width alone
            rows.run([rows.DEPLOY, 'prune', model, '--plan', '0', '-o', f'{folder}/one'])
            row.update(one_model_bytes=os.path.getsize(f'{folder}/one'), file_bytes=os.path.getsize(model))
        with open(RESULTS, 'a') as file:
            file.write(json.dumps(row) + '\n')


def draw_image(folder):
    rows.run([rows.TRAIN, 'synth', f'{folder}/data', '--images', '80', '--size', '64', '--threads', '1'])
    for place, _, names in os.walk(f'{folder}/data'):
        for name in sorted(names):
            if name.endswith('.jpg'):
                return f'{place}/{name}'
    rows.fail('no image was drawn')


def show():
    for line in open(RESULTS):
        r = json.loads(line)
        print(f'{r["model"]}, {r["isa"]}, {r["frames"]} frames; 1800 MHz is a core, others a quota of it')
        print(f'{"MHz":>6} {"fixed, ms":>10} {"steady, ms":>10} {"expected":>8}  levels of the blocks')
        for c in CLOCKS:
            f, s = r['fixed']['clocks'][str(c)], r['steady']['clocks'][str(c)]
            print(f'{c:6} {f["ms"]:10.2f} {s["ms"]:10.2f} {s["expected"]:8.2f}  {"".join(format(l, "x") for l in s["levels"])}')
        print(f'coefficient of variation: {r["fixed"]["cv"]:.1f}% fixed, {r["steady"]["cv"]:.1f}% steady (target: 6%); with the frames '
              f'during which the clock moved {r["fixed"]["cv_with_moves"]:.1f}% and {r["steady"]["cv_with_moves"]:.1f}%')
        print(f'of it, between the clocks (of their medians) {r["fixed"]["cv_of_medians"]:.1f}% and {r["steady"]["cv_of_medians"]:.1f}%; '
              f'within a clock, which is the machine, {r["fixed"]["cv_within"]:.1f}% and {r["steady"]["cv_within"]:.1f}%')
        if 'file_bytes' in r:
            more = 100 * (r['file_bytes'] / r['one_model_bytes'] - 1)
            print(f'storage: one model of full width {r["one_model_bytes"] / 1e6:.3f} MB, the file for all levels and mixed plans '
                  f'{r["file_bytes"] / 1e6:.3f} MB, {more:.2f}% more (target: 1%)')
        print()


if __name__ == '__main__':
    os.chdir(rows.ROOT)
    if sys.argv[1:] not in ([], ['run']):
        print(f'usage: {sys.argv[0]} [run]', file=sys.stderr)
        sys.exit(2)
    if sys.argv[1:] == ['run']:
        measure()
    if not os.path.exists(RESULTS):
        rows.fail(f'no finished rows in {RESULTS}; begin with: {sys.argv[0]} run')
    show()
