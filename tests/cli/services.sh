#!/bin/sh
# The systemd units: installed, well formed, and with options that the programs have.
. "$(dirname "$0")/../lib.sh"
does make -s install "CONFIG=$(basename "$BUILD")" "DESTDIR=$work/root" PREFIX=/usr
units="$work/root/usr/lib/systemd/system"
for unit in espalier-worker espalier-run; do
    file="$units/$unit.service"
    [ -s "$file" ] || fail "$unit.service is not installed"
    ! grep -q '@' "$file" || fail "$unit.service has a place left to fill in"
    command=${unit#espalier-}
    does "$deploy" "$command" --help
    cp "$work/out" "$work/help"
    for option in $(grep -E '^(ExecStart=|Environment=OPTIONS)' "$file" | grep -oE ' ?--[a-z-]+'); do
        grep -q -e "^  $option " "$work/help" || fail "$unit.service: $command has no option $option"
    done
done
grep -q '^u espalier ' "$work/root/usr/lib/sysusers.d/espalier.conf" || fail "no sysusers.d"
if ! command -v systemd-analyze >/dev/null || [ ! -d /run/systemd ]; then
    echo "SKIP: systemd-analyze verify: no systemd here"
else
    sed -i "s|^ExecStart=/usr|ExecStart=$work/root/usr|" "$units"/*.service
    does systemd-analyze verify "$units/espalier-worker.service" "$units/espalier-run.service"
    ! grep -q 'espalier-' "$work/err" || fail "systemd-analyze finds fault"
fi
does make -s uninstall "CONFIG=$(basename "$BUILD")" "DESTDIR=$work/root" PREFIX=/usr
[ -z "$(find "$work/root" -type f)" ] || fail "left behind: $(find "$work/root" -type f)"
