#!/bin/sh
# Runs what lies in /docker-entrypoint.d, in the order of the names, and then the command.
set -e

say() {
    [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"
}

# Only before nginx itself: `docker run nginx ls` is a look around.
case $1 in nginx | nginx-debug)
    for file in /docker-entrypoint.d/*; do
        # shellcheck source=/dev/null # the user's own files
        case $file in
            # Sourced, so that it can set variables for those after it.
            *.envsh) [ ! -x "$file" ] || { say "Sourcing $file" && . "$file"; } ;;
            *.sh) [ ! -x "$file" ] || { say "Launching $file" && "$file"; } ;;
        esac
    done
    say "Configuration complete; ready for start up"
    ;;
esac

exec "$@"
