#!/bin/sh
# /etc/nginx/templates/site.conf.template becomes /etc/nginx/conf.d/site.conf, with ${NAMES} of the environment filled in.
set -e
templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}

[ -d "$templates" ] || exit 0
# Only names that are set: $host and $uri are nginx's own.
names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p' | grep -E "${NGINX_ENVSUBST_FILTER:-.}" || true)
find "$templates" -follow -type f -name "*$suffix" | while read -r template; do
    site=$output/${template#"$templates"/}
    site=${site%"$suffix"}
    mkdir -p "$(dirname "$site")"
    envsubst "$names" <"$template" >"$site"
done
