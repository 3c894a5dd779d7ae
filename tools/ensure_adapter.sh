#!/bin/sh
# Succeeds if wgpt finds an adapter. If there is none on Debian or Ubuntu, it
# installs a software adapter first.
#
# Usage: tools/ensure_adapter.sh WGPT
set -eu
wgpt=${1:?usage: tools/ensure_adapter.sh WGPT}
NO_ADAPTER=3 # wgpt's exit code

# adapters: lists the adapters; returns wgpt's exit code.
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
