#!/bin/sh
# rustc, as cargo calls it for a fuzz target: coverage is counted in Trunkline, in quinn-proto and in
# prost, which decide what becomes of an input. Other crates are built without that: their counters
# would take time in every run, and lead nowhere.
case "$CARGO_PKG_NAME" in
trunkline-* | quinn-proto | prost) exec "$@" ;;
esac
for argument; do
    shift
    case "$argument" in
    -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-*) ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec "$@"
