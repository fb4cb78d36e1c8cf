#!/bin/sh
# `docker run node app.js` and `docker run node -e 1` mean node; what is a command, is one.
set -e

is_command() {
    case $1 in
        -*) return 1 ;;
    esac
    # A script that can't be executed is for node, though `command -v` finds it.
    command -v "$1" >/dev/null && ! { [ -f "$1" ] && [ ! -x "$1" ]; }
}

is_command "${1:-}" || set -- node "$@"
exec "$@"
