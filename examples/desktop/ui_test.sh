#!/usr/bin/env bash
# Tests the window under Xvfb: starts, types, continues, stops, changes settings, loads a
# missing model, loses the device, closes. It checks the events that --log-events writes.
# Screenshots of each step are for a person to look at.
#
#   examples/desktop/ui_test.sh [SCREENSHOTS]     needs xvfb, xdotool, imagemagick, python3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

shots=${1:-$(mktemp -d)}
mkdir -p "$shots"
work=$(mktemp -d)
events=$work/events
# Mesa's window-system code warns on stderr if this is unset.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work}

cargo build --quiet
program=${CARGO_TARGET_DIR:-target}/debug/wgpt-desktop

Xvfb -displayfd 3 -screen 0 1280x900x24 -nolisten tcp 3>"$work/display" 2>/dev/null &
xvfb=$!
app=
finish() {
    [ -z "$app" ] || kill "$app" 2>/dev/null || true
    kill "$xvfb" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
until [ -s "$work/display" ]; do sleep 0.1; done
DISPLAY=:$(cat "$work/display")
export DISPLAY

fail() {
    echo "FAILED: $1" >&2
    grep -v '"event":"control"' "$events" | tail -n 8 >&2
    exit 1
}

# Waits until the number of events that match $1 exceeds $2 (0 without it).
await() {
    local seen=${2:-0}
    for _ in $(seq 300); do
        [ "$(count "$1")" -gt "$seen" ] && return
        [ -z "$app" ] || kill -0 "$app" 2>/dev/null || sleep 0.3
        sleep 0.1
    done
    fail "no event matched $1"
}

count() { grep -c -- "$1" "$events" || true; }
last() { grep -- "$1" "$events" | tail -n 1; }
number() { sed -E "s/.*\"$2\":([0-9.]+).*/\1/" <<<"$1"; }
shot() { import -window root "$shots/$1.png"; }

# The middle of a control, or another part of its width (in percent).
click() {
    local rect
    rect=$(last "\"event\":\"control\".*\"name\":\"$1\"" | sed -E 's/.*"rect":\[([0-9,-]+)\].*/\1/')
    [ -n "$rect" ] || fail "the control $1 is not there"
    IFS=, read -r x y w h <<<"$rect"
    xdotool mousemove $((x + w * ${2:-50} / 100)) $((y + h / 2)) sleep 0.2 mousedown 1 sleep 0.1 mouseup 1 sleep 0.2
}

start() {
    : >"$events"
    "$program" --state "$work/state.json" --log-events "$@" >"$events" 2>"$work/stderr" &
    app=$!
    await '"event":"loaded"'
    xdotool search --sync --name '^wgpt$' windowfocus
    sleep 0.3
}

# Closes the window with the command $1 and expects success within five seconds.
close() {
    local began=$SECONDS
    "$@"
    wait "$app" || fail "exit code $?"
    app=
    [ $((SECONDS - began)) -le 5 ] || fail "closing took $((SECONDS - began)) seconds"
    [ "$(count '"event":"closed"')" -ge 1 ] || fail "no closed event"
    [ ! -s "$work/stderr" ] || { cat "$work/stderr" >&2; fail "something on stderr"; }
}
quit() { xdotool key ctrl+q; }

# Sends the message of a window manager's close button.
close_button() {
    python3 - "$(xdotool search --name '^wgpt$' | tail -n 1)" <<'PYTHON'
import ctypes, sys

class Message(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("send_event", ctypes.c_int),
                ("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("message_type", ctypes.c_ulong),
                ("format", ctypes.c_int), ("data", ctypes.c_long * 5), ("pad", ctypes.c_long * 24)]

x = ctypes.CDLL("libX11.so.6")
x.XOpenDisplay.restype = ctypes.c_void_p
x.XInternAtom.restype = ctypes.c_ulong
x.XInternAtom.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
x.XSendEvent.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
x.XCloseDisplay.argtypes = [ctypes.c_void_p]
display = x.XOpenDisplay(None)
window = int(sys.argv[1])
message = Message(33, 0, 1, display, window, x.XInternAtom(display, b"WM_PROTOCOLS", 0), 32)
message.data[0] = x.XInternAtom(display, b"WM_DELETE_WINDOW", 0)
x.XSendEvent(display, window, 0, 0, ctypes.byref(message))
x.XCloseDisplay(display)
PYTHON
}

echo "start: the embedded model, no set-up"
start
await '"event":"rated".*"cells":[1-9]'
shot 1-start

echo "type"
xdotool key ctrl+a
xdotool type --delay 30 'One day, Tom saw a big red ball'
await '"event":"edited".*"bytes":31,'
await '"event":"rated"' 1
shot 2-typed

echo "continue, to the end"
xdotool key ctrl+Return
await '"event":"ended"'
ended=$(last '"event":"ended"')
[ "$(number "$ended" tokens)" -ge 1 ] || fail "no token was generated"
[ "$(number "$ended" bytes)" -gt 31 ] || fail "the text did not grow"
await '"event":"rated"' 2
xdotool mousemove 300 105
sleep 0.7
shot 3-continued

echo "accept, and undo the rest by typing over it"
xdotool key Tab
await '"event":"accepted"'

echo "change settings: temperature, fixed seed, tokens, past the end, theme"
before=$(count '"event":"settings"')
click temperature 10
click seed 3
click max-tokens 62
click past-end
click dark
await '"event":"settings".*"theme":"Dark"' 0
[ "$(count '"event":"settings"')" -ge $((before + 5)) ] || fail "not all five settings arrived"
settings=$(last '"event":"settings"')
grep -q '"seed":1' <<<"$settings" || fail "the seed is not fixed"
[ "$(number "$settings" max_tokens)" -gt 500 ] || fail "max_tokens is not what was clicked"
shot 4-settings

echo "stop: the button, while it runs"
click text
xdotool key ctrl+End ctrl+Return
await '"event":"first piece"' 1
click stop
await '"event":"ended".*"reason":"cancelled"'
[ "$(number "$(last '"event":"ended"')" tokens)" -lt 500 ] || fail "it was not stopped"
shot 5-stopped
xdotool key Escape
await '"event":"discarded"'

echo "a model that is not there: a message, and the one before stays"
click model-directory
xdotool type '/no/such/model'
xdotool key Return
await '"event":"load failed".*/no/such/model: does not exist'
sleep 0.3
shot 6-no-model
click text
xdotool key ctrl+Return
await '"event":"first piece"' 2

echo "close while it runs"
close quit
kept=$(sed -nE 's/.*"seed": ([0-9]+).*/\1/p' "$work/state.json")
[ "$kept" = 1 ] || fail "the settings were not kept"

echo "start anew: text and settings are there; close by the window's own button"
start
await '"event":"settings".*"theme":"Dark"'
await '"event":"rated".*"cells":[1-9]'
close close_button

echo "close while a model is loaded"
: >"$events"
"$program" --state none --log-events --random gpt2 >"$events" 2>"$work/stderr" &
app=$!
await '"event":"phase"'
xdotool search --sync --name '^wgpt$' windowfocus
close quit

echo "a lost device: the window opens anew with the text"
start --fault 2
await '"event":"device lost"'
await '"event":"loaded"' 1
await '"event":"rated".*"cells":[1-9]' 1
xdotool search --sync --name '^wgpt$' windowfocus
sleep 0.3
shot 7-recovered
xdotool key ctrl+End ctrl+Return
await '"event":"ended"'
close quit

echo "passed; screenshots in $shots"
