#!/bin/sh
# Serve with the flags given. What must be in no image and no compose file comes from files:
#   ADMIN_KEY_FILE    the admin API key
#   PROCESS_KEY_FILE  64 hex digits, so that hashes and stored pages outlive a restart
set -eu
if [ -n "${PROCESS_KEY_FILE:-}" ]; then
  SGLANG_TENANT_PROCESS_KEY=$(cat "$PROCESS_KEY_FILE")
  export SGLANG_TENANT_PROCESS_KEY
fi
if [ -n "${ADMIN_KEY_FILE:-}" ]; then
  set -- "$@" --admin-api-key "$(cat "$ADMIN_KEY_FILE")"
fi
exec sglang serve --model-type llm "$@"
