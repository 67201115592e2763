#!/bin/sh
# Fuzzes each target for some seconds, starting from its corpus; what is new
# lands in build/, a crash's input in ./crash-..., and the run goes on.
#   tests/fuzz/run.sh SECONDS TARGET...
set -u
seconds=$1; shift
failed=
for target; do
    name=${target##*/fuzz_}
    found=${target%/*}/found/$name
    mkdir -p "$found"
    if "$target" "$found" "tests/fuzz/corpus/$name" -max_total_time="$seconds" -max_len=16384 -timeout=10 \
        -rss_limit_mb=3000 -use_value_profile=1 -print_final_stats=1 >"$found.log" 2>&1; then
        echo "  ok   $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log") runs"
    else
        failed="$failed $name"
        echo "  FAIL $name: see $found.log"
        grep -m 3 -E 'does not hold|ERROR|runtime error|Test unit written' "$found.log" | sed 's/^/       | /'
    fi
done
[ -z "$failed" ]
