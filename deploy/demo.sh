#!/bin/sh
# Run the service with a simulated OneSpan until Ctrl-C. It sends three callbacks a second and answers REST requests.
# One callback in twenty is lost, so that sync finds some events.
# Requires flask and gunicorn on PATH, settings, and a migrated database; `make demo` provides its own.
set -eu
cd "$(dirname "$0")/.."

settings=${SETTINGS_FILE:-instance/demo.env}
bind=${BIND:-127.0.0.1:8000}
address=http://127.0.0.1:${bind##*:}
log=${DEMO_LOG:-instance/demo.log}
deadline=$(($(date +%s) + 30)) # the latest time for the service's first answer
service='' onespan=''

fail() {
  echo "demo: $1" >&2
  exit 1
}

answers() {
  python -c 'import sys, urllib.request as web
web.build_opener(web.ProxyHandler({})).open(sys.argv[1], timeout=2)' "$address/healthz" 2>/dev/null
}

# Stop the simulator first, so that the service answers its last callbacks.
stop() {
  trap '' INT TERM HUP
  for process in $onespan $service; do
    kill -TERM "$process" 2>/dev/null || true
    wait "$process" || true
  done
}

if answers; then
  fail "$address is already in use; stop that service, or choose another port: BIND=127.0.0.1:8001 make demo"
fi
mkdir -p "$(dirname "$log")"
trap stop EXIT
trap 'exit 0' INT TERM HUP # Ctrl-C is the normal end of a demo

# Replace the OneSpan of the settings, which does not have these packages.
port=$(python -c 'import socket; server = socket.create_server(("127.0.0.1", 0)); print(server.getsockname()[1])')
export ONESPAN_URL="http://127.0.0.1:$port" ONESPAN_API_KEY="$(printf 'simulated-api-key-%058d' 0)" ONESPAN_CLIENT_ID='' ONESPAN_CLIENT_SECRET=''

# Report missed callbacks after one minute, so that they appear during the demo.
export MISSED_GRACE_MINUTES="${MISSED_GRACE_MINUTES:-1}"

echo "Starting the service at $address (log: $log)"
gunicorn wsgi:app >"$log" 2>&1 &
service=$!
until answers; do
  if ! kill -0 "$service" 2>/dev/null || [ "$(date +%s)" -gt "$deadline" ]; then
    tail -n 20 "$log" >&2
    fail "no answer from $address/healthz; see the end of $log above"
  fi
  sleep 1
done

cat <<EOF

Open $address/ and log in with DASHBOARD_PASSWORD from $settings.
The packages are simulated; your handlers in app/handlers.py run for them.

Sync finds the events of lost callbacks. To run it at once, press "Sync with OneSpan" on the Health page.
To read the packages as JSON, in another terminal:

  . $settings
  curl -s "$address/api/packages?sort=-updated_at&limit=5" -H "Authorization: Bearer \${API_TOKENS#*=}"

Stop with Ctrl-C.

EOF
flask simulate --packages 0 --at-once "${DEMO_AT_ONCE:-40}" --rate "${DEMO_RATE:-3}" --drop 0.05 --url "$address/onespan/callback" \
  --serve "$port" --api-key "$ONESPAN_API_KEY" &
onespan=$!
wait "$onespan"
