#!/bin/sh
# Starts the server as the user redis; whatever else is asked for is done as it is.
set -e

says_protected_mode() {
    case " $* " in
        *" --protected-mode "*) return 0 ;;
    esac
    [ -f "${2:-}" ] && grep -q '^[[:space:]]*protected-mode' "$2"
}

# `docker run redis --appendonly yes` and `docker run redis /my.conf` mean the server.
case ${1:-} in
    -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        find . \! -user redis -exec chown redis '{}' +
        exec setpriv --reuid=redis --regid=redis --init-groups -- "$0" "$@"
    fi
    # In a container the network is the protection: without this, redis answers no other container unless it has a password. What a
    # command line or a configuration says of it counts.
    if ! says_protected_mode "$@"; then
        set -- "$@" --protected-mode no
    fi
    # What the server saves is its own.
    umask 0077
fi

exec "$@"
