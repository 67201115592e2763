#!/bin/sh
# Runs test programs and scripts, two at a time, and sums up what they counted.
#   tests/run.sh BUILD_DIR TEST...
# A program (cmocka or alike) counts its own tests ("[  PASSED  ] 3 test(s).");
# a script is one test. Scripts see BUILD (absolute), and RUN: what to put in
# front of a program (an emulator, or nothing). A script that cannot run here
# prints "SKIP: reason" and exits 77.
set -u
BUILD=$(realpath "$1"); shift
export BUILD RUN="${RUN:-}" LC_ALL=C
export OMP_WAIT_POLICY=passive # tests share the cores: a spinning thread would only be in the way
logs="$BUILD/test-logs"

one() {
    name=$(echo "${1#"$BUILD"/}" | sed 's|^.*tests/||')
    log="$logs/$(echo "$name" | tr / _).log"
    start=$(date +%s%N)
    case $1 in
    *.sh) timeout "${TEST_TIMEOUT:-600}" sh "$1" >"$log" 2>&1 ;;
    *) timeout "${TEST_TIMEOUT:-600}" $RUN "$1" >"$log" 2>&1 ;;
    esac
    rc=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    passed=$(sed -n 's/.*\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{s+=$1} END {print s+0}')
    failed=$(sed -n 's/.*\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{s+=$1} END {print s+0}')
    skipped=$(sed -n 's/.*\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$log" | awk '{s+=$1} END {print s+0}')
    case $1 in *.sh) passed=0 failed=0 skipped=0
        case $rc in 0) passed=1 ;; 77) skipped=1 ;; esac ;;
    esac
    word=ok
    if [ $rc = 77 ]; then word=SKIP
    elif [ $rc != 0 ]; then word=FAIL; [ "$failed" = 0 ] && failed=1
    elif [ "$passed" = 0 ] && [ "$skipped" != 0 ]; then word=SKIP
    elif [ "$passed" = 0 ]; then word=FAIL failed=1; echo "counted no test" >>"$log"; fi
    printf '  %-4s %-44s %4d passed %6d ms\n' "$word" "$name" "$passed" "$ms"
    sed -n 's/^SKIP: /       skipped: /p' "$log"
    if [ $word = FAIL ]; then tail -n 30 "$log" | sed 's/^/       | /'; fi
    echo "$passed $failed $skipped" >"$log.count"
}
if [ "${1:-}" = --one ]; then shift; one "$1"; exit 0; fi

rm -rf "$logs"; mkdir -p "$logs"
jobs=${TEST_JOBS:-$(nproc)}
for t; do printf '%s\0' "$t"; done | xargs -0 -P "$jobs" -I{} sh "$0" "$BUILD" --one {}
cat "$logs"/*.count | awk '{p+=$1; f+=$2; s+=$3} END {printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f>0}'
