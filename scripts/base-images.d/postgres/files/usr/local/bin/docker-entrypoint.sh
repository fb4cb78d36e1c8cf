#!/usr/bin/env bash
# Starts PostgreSQL as the user postgres. The first time, with an empty data folder, the environment's wishes become a database.
set -Eeuo pipefail

main() {
    # `docker run postgres -c shared_buffers=256MB` means the server.
    [[ ${1-} != -* ]] || set -- postgres "$@"
    if [[ $1 == postgres ]] && ! asks_only "$@"; then
        if ((EUID == 0)); then
            own_folders
            HOME=/var/lib/postgresql exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
        fi
        if [[ -s $PGDATA/PG_VERSION ]]; then
            printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
        else
            make_database "${@:2}"
            printf '\nPostgreSQL init process complete; ready for start up.\n\n'
        fi
    fi
    exec "$@"
}

# Whether nothing is to be served: only words about the server.
asks_only() {
    local word
    for word in "$@"; do
        case $word in
            -\? | --help | -V | --version | --describe-config | -C) return 0 ;;
        esac
    done
    return 1
}

# Volumes come with any owner.
own_folders() {
    mkdir -p "$PGDATA" /run/postgresql
    find "$PGDATA" \! -user postgres -exec chown postgres {} +
    find /run/postgresql \! -user postgres -exec chown postgres {} +
    chmod 700 "$PGDATA"
    chmod 3777 /run/postgresql
    if [[ -n ${POSTGRES_INITDB_WALDIR-} ]]; then
        mkdir -p "$POSTGRES_INITDB_WALDIR"
        find "$POSTGRES_INITDB_WALDIR" \! -user postgres -exec chown postgres {} +
        chmod 700 "$POSTGRES_INITDB_WALDIR"
    fi
}

make_database() {
    take POSTGRES_PASSWORD ''
    take POSTGRES_USER postgres
    take POSTGRES_DB "$POSTGRES_USER"
    take POSTGRES_INITDB_ARGS ''
    POSTGRES_HOST_AUTH_METHOD=${POSTGRES_HOST_AUTH_METHOD-}
    require_password
    # The words of POSTGRES_INITDB_ARGS are as a shell reads them, for a value may have a blank in it.
    eval "local words=($POSTGRES_INITDB_ARGS)"
    # shellcheck disable=SC2154 # the line above sets `words`
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") \
        ${POSTGRES_INITDB_WALDIR:+--waldir="$POSTGRES_INITDB_WALDIR"} "${words[@]}"
    # From other containers: with the password, stored as this server stores it.
    printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption)}" >>"$PGDATA/pg_hba.conf"

    # Nobody outside is to see a database that is half made: it listens at its socket alone.
    PGUSER=${PGUSER:-$POSTGRES_USER} pg_ctl --pgdata="$PGDATA" -o "$(quoted "$@" -c listen_addresses='' -p "${PGPORT:-5432}")" -w start
    if [[ $POSTGRES_DB != postgres ]]; then
        sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    fi
    run_scripts /docker-entrypoint-initdb.d/*
    PGUSER=${PGUSER:-$POSTGRES_USER} pg_ctl --pgdata="$PGDATA" -m fast -w stop
    unset PGPASSWORD
}

# Sets a variable from itself, from the file that NAME_FILE names (a secret in the environment is everybody's), or to a default.
take() {
    local name=$1 file=$1_FILE
    if [[ -n ${!name-} && -n ${!file-} ]]; then
        echo "Error: $name and $file are both set: one of them is enough." >&2
        exit 1
    fi
    if [[ -n ${!file-} ]]; then
        export "$name=$(<"${!file}")"
    else
        export "$name=${!name:-$2}"
    fi
    unset "$file"
}

require_password() {
    [[ -z $POSTGRES_PASSWORD ]] || return 0
    if [[ $POSTGRES_HOST_AUTH_METHOD == trust ]]; then
        echo 'Warning: POSTGRES_HOST_AUTH_METHOD=trust lets everybody in who can reach port 5432, as any user and without a password.' >&2
        return
    fi
    cat >&2 <<'END'
Error: Database is uninitialized and superuser password is not specified.
       Give it one: -e POSTGRES_PASSWORD=... , or -e POSTGRES_PASSWORD_FILE=... with the path of a file that has it.
       To let everybody in without one, who can reach the port: -e POSTGRES_HOST_AUTH_METHOD=trust
END
    exit 1
}

# Words as one, which a shell takes apart again.
quoted() {
    (($# == 0)) || printf '%q ' "$@"
}

sql() {
    PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD} psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password --no-psqlrc "$@"
}

# In the order of their names; the first that fails ends it all.
run_scripts() {
    local script
    for script; do
        echo "$0: $script"
        # shellcheck source=/dev/null # the user's own files
        case $script in
            *.sh) if [[ -x $script ]]; then "$script"; else source "$script"; fi ;;
            *.sql) sql --dbname "$POSTGRES_DB" --file "$script" ;;
            *.sql.gz) gunzip --stdout "$script" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.xz) xz --decompress --stdout "$script" | sql --dbname "$POSTGRES_DB" ;;
            *.sql.zst) zstd --decompress --stdout "$script" | sql --dbname "$POSTGRES_DB" ;;
            # The folder is empty, and the pattern stands for itself.
            */\*) ;;
            *) echo "$0: ignoring $script" ;;
        esac
    done
}

main "$@"
