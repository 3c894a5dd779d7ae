#!/bin/sh
# Succeeds when wgpt finds an adapter, after installing a software one where
# there is none and the system is Debian or Ubuntu.
#
# Usage: tools/ensure_adapter.sh WGPT
set -eu
wgpt=${1:?usage: tools/ensure_adapter.sh WGPT}
NO_ADAPTER=3 # wgpt's exit code

# adapters: lists them; the exit code is wgpt's.
adapters() { "$wgpt" devices >&2; }

code=0
adapters || code=$?
if [ "$code" -eq "$NO_ADAPTER" ] && command -v apt-get >/dev/null 2>&1; then
    echo "ensure_adapter: no adapter yet: installing a software one" >&2
    "$(dirname "$0")/setup_vulkan.sh"
    code=0
    adapters || code=$?
fi
exit "$code"
