# What the shell tests share. They begin with
#   . "$(dirname "$0")/../lib.sh"
# and then have: `work`, a folder that goes away at the end; `train` and
# `deploy`, the programs; and the functions below. The last command that one of
# these ran has left its output in $work/out and $work/err.
set -eu
work=$(mktemp -d)
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
train="$BUILD/espalier-train" deploy="$BUILD/espalier-deploy"

# fail TEXT...: the test ends here, with what the last command said.
fail() {
    echo "$*"
    for file in out err; do
        [ ! -s "$work/$file" ] || { echo "-- $file:"; tail -n 20 "$work/$file"; }
    done
    exit 1
}
# skip REASON...: the test cannot run here.
skip() { echo "SKIP: $*"; exit 77; }
# status_of COMMAND...: its exit status, in $rc.
status_of() {
    rc=0
    "$@" >"$work/out" 2>"$work/err" </dev/null || rc=$?
}
# does COMMAND...: it succeeds.
does() {
    status_of "$@"
    [ $rc = 0 ] || fail "status $rc: $*"
}
# The lines in which a program named itself.
said() { grep -v '^hint: ' "$work/err" | grep '^[a-z0-9.-]*: ' || :; }
# stops STATUS PATTERN COMMAND...: it ends with that status, and its last line has the pattern.
stops() {
    want=$1 pattern=$2; shift 2
    status_of "$@"
    [ $rc = "$want" ] || fail "status $rc, not $want: $*"
    said | tail -n 1 | grep -q -e "$pattern" || fail "no '$pattern' from: $*"
}
# refuses STATUS PATTERN COMMAND...: and that line is all there is, besides a hint.
refuses() {
    stops "$@"
    [ "$(said | wc -l)" = 1 ] || fail "not one line from: $*"
    [ ! -s "$work/out" ] || fail "output from: $*"
}
# hints PATTERN: the last error came with such a hint.
hints() { grep '^hint: ' "$work/err" | grep -q -e "$1" || fail "no hint '$1'"; }
