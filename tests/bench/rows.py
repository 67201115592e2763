"""What the tables of trained rows share: jobs that go on where they were cut
off, and results as JSON lines, one row each, with seed, epochs and command.

Environment: TRAIN, DEPLOY (the programs), THREADS (1), EPOCHS (a number for all
rows instead of each network's), DATA (data/cifar10.data), HOLD_OUT (5000), ROWS (only rows
whose name holds this).
"""
import fcntl
import json
import os
import struct
import subprocess
import sys
import zlib

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), '../..'))
TRAIN = os.environ.get('TRAIN', 'build/espalier-train')
DEPLOY = os.environ.get('DEPLOY', 'build/espalier-deploy')
DATA = os.environ.get('DATA', 'data/cifar10.data')
THREADS = os.environ.get('THREADS', '1')
EPOCHS = {'vgg16-cifar': 8, 'resnet20': 15}
# Images kept back from training, the same for every seed; the test split is only used for the figures.
HOLD_OUT = os.environ.get('HOLD_OUT', '5000')


def fail(text):
    sys.exit(f'{os.path.basename(sys.argv[0])}: {text}')


def epochs_of(network):
    return int(os.environ.get('EPOCHS', EPOCHS.get(network, 15)))


def run(command, output=None):
    """Its output; with `output`, kept there whole, and not run again if it is there."""
    if output and os.path.exists(output):
        with open(output) as file:
            return file.read()
    environment = dict(os.environ, OMP_WAIT_POLICY='passive')
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    if done.returncode:
        fail(' '.join(command) + '\n' + '\n'.join(done.stderr.splitlines()[-3:]))
    if output:
        with open(output + '.part', 'w') as file:
            file.write(done.stdout)
        os.replace(output + '.part', output)
    return done.stdout


def said(command):
    """A command as it is put into rows."""
    return ' '.join(['espalier-' + os.path.basename(command[0]).split('-', 1)[-1]] + command[1:])


def train(cfg, model, network, seed, options):
    """Trains the model unless it is there; returns the command."""
    command = [TRAIN, 'train', DATA, cfg, '-o', model, '--seed', str(seed), '--hold-out', HOLD_OUT, '--threads', THREADS,
               '--epochs', str(epochs_of(network)), '--robust', 'none', '--order', 'none', '--measure-plans', '0'] + options
    if not os.path.exists(model):
        resume = ['--resume'] if os.path.exists(model + '.checkpoint') else []
        run(command + ['--log', model + '.log'] + resume)
    return said(command)


def seconds(log):
    """Spent in the epochs that a training's log lists."""
    with open(log) as file:
        return sum(l['seconds'] for l in map(json.loads, file) if l['kind'] == 'epoch')


def test_accuracy(model, output, variant=None):
    """Percent of the images of the test split."""
    text = run([TRAIN, 'eval', DATA, model, '--split', 'test', '--plan', '0', '--threads', THREADS, '--json'] +
               (['--variant', variant] if variant else []), output)
    return round(100 * json.loads(text)['accuracy'], 2)


def milliseconds(model):
    """Of a frame on one thread: the least of some seconds, which other load disturbs least."""
    text = run([DEPLOY, 'bench', model, '--threads', '1', '--seconds', '3', '--json'])
    return json.loads(text)['levels'][0]['min_ms']


def header(path):
    with open(path, 'rb') as file:
        return json.loads(file.read(struct.unpack('<Q', file.read(8))[0]))


def sizes(path):
    """Bytes of a model: as it is stored, dense float32; compressed by zlib; and with batch norm
    folded into weights and biases, dense."""
    tensors = {k: v['shape'] for k, v in header(path).items() if k != '__metadata__'}
    folded = 0
    for name, shape in tensors.items():
        if name.endswith('.weight'):
            count = 1
            for n in shape:
                count *= n
            folded += 4 * (count + shape[0])
    with open(path, 'rb') as file:
        bytes_ = file.read()
    return {'bytes': len(bytes_), 'zlib_bytes': len(zlib.compress(bytes_, 9)), 'folded_bytes': folded}


def one_level(network, work):
    """The network's cfg without levels: it is not to be pruned while it runs."""
    path = f'{work}/{network}.cfg'
    with open(f'cfg/{network}.cfg') as file:
        text = ''.join('levels=1\n' if l.startswith('levels=') else l for l in file)
    with open(path, 'w') as file:
        file.write(text)
    return path


class Table:
    """Finished rows, in tests/bench/results/NAME.jsonl."""

    def __init__(self, name):
        self.path = f'tests/bench/results/{name}.jsonl'
        self.work = f'build/bench/{name}'
        self.rows = []
        if os.path.exists(self.path):
            with open(self.path) as file:
                self.rows = [json.loads(l) for l in file if l.strip()]

    def has(self, **key):
        return any(all(r.get(k) == v for k, v in key.items()) for r in self.rows)

    def add(self, row):
        self.rows.append(row)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, 'a') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(row) + '\n')
        print(json.dumps(row), flush=True)

    def find(self, **key):
        return [r for r in self.rows if all(r.get(k) == v for k, v in key.items())]

    def mean(self, value, **key):
        found = [r[value] for r in self.find(**key) if value in r]
        return sum(found) / len(found) if found else None


def main(name, jobs, run_row, show, others=()):
    """`NAME.py` prints the table, `NAME.py run` does what is missing first, `NAME.py list` lists the rows.
    `others`: tables whose rows are shown, too."""
    os.chdir(ROOT)
    table = Table(name)
    mode = sys.argv[1] if len(sys.argv) > 1 else ''
    if mode not in ('', 'run', 'list') or len(sys.argv) > 2:
        print(f'usage: {sys.argv[0]} [run | list]', file=sys.stderr)
        sys.exit(2)
    wanted = os.environ.get('ROWS', '')
    for job in jobs():
        text = ' '.join(f'{k}={v}' for k, v in job.items())
        if wanted not in text:
            continue
        if mode == 'list':
            print(('done     ' if table.has(**job) else 'missing  ') + text)
        elif mode == 'run' and not table.has(**job):
            for program in (TRAIN, DEPLOY):
                if not os.access(program, os.X_OK):
                    fail(f'no {program}; make')
            if DATA == 'data/cifar10.data' and not os.path.isdir('data/cifar10'):
                fail('no data/cifar10; data/cifar10.sh fetches it')
            os.makedirs(table.work, exist_ok=True)
            run_row(table, job)
    if mode == 'list':
        return
    if not any(t.rows for t in [table, *map(Table, others)]):
        fail(f'no finished rows in {table.path}; begin with: {sys.argv[0]} run')
    show(table)
