#!/bin/sh
# The service and a simulated OneSpan that calls it back three times a second, and answers it, until Ctrl-C.
# One callback in twenty is lost: the service finds out by asking.
# Wants flask and gunicorn on PATH, settings and a migrated database: `make demo` sees to all, apart from the service's.
set -eu
cd "$(dirname "$0")/.."

settings=${SETTINGS_FILE:-instance/demo.env}
bind=${BIND:-127.0.0.1:8000}
address=http://127.0.0.1:${bind##*:}
log=${DEMO_LOG:-instance/demo.log}
deadline=$(($(date +%s) + 30)) # until then the service must answer
service='' onespan=''

fail() {
  echo "demo: $1" >&2
  exit 1
}

answers() {
  python -c 'import sys, urllib.request as web
web.build_opener(web.ProxyHandler({})).open(sys.argv[1], timeout=2)' "$address/healthz" 2>/dev/null
}

# The one that talks ends first, so that nothing it says is lost.
stop() {
  trap '' INT TERM HUP
  for process in $onespan $service; do
    kill -TERM "$process" 2>/dev/null || true
    wait "$process" || true
  done
}

if answers; then
  fail "something answers at $address already; stop it, or choose another port: BIND=127.0.0.1:8001 make demo"
fi
mkdir -p "$(dirname "$log")"
trap stop EXIT
trap 'exit 0' INT TERM HUP # that is how a demo ends

# Never the OneSpan of the settings: it knows nothing of these packages.
port=$(python -c 'import socket; one = socket.create_server(("127.0.0.1", 0)); print(one.getsockname()[1])')
export ONESPAN_URL="http://127.0.0.1:$port" ONESPAN_API_KEY=simulated-api-key ONESPAN_CLIENT_ID='' ONESPAN_CLIENT_SECRET=''

# What is found is missed after a minute, so that one sees it while one watches.
export MISSED_GRACE_MINUTES="${MISSED_GRACE_MINUTES:-1}"

echo "Starting the service at $address; its log is $log"
gunicorn wsgi:app >"$log" 2>&1 &
service=$!
until answers; do
  if ! kill -0 "$service" 2>/dev/null || [ "$(date +%s)" -gt "$deadline" ]; then
    tail -n 20 "$log" >&2
    fail "the service does not answer at $address/healthz; the end of $log is above"
  fi
  sleep 1
done

cat <<EOF

Open $address/ and log in with DASHBOARD_PASSWORD from $settings.
Your functions in app/handlers.py run, for packages that do not exist.

What callbacks never told is found when OneSpan is asked: "Reconcile now" on the page Health does that at once.
The same as JSON, from another terminal:

  . $settings
  curl -s "$address/api/packages?sort=-updated_at&limit=5" -H "Authorization: Bearer \${API_TOKENS#*=}"

Stop with Ctrl-C.

EOF
flask simulate --packages 0 --at-once "${DEMO_AT_ONCE:-40}" --rate "${DEMO_RATE:-3}" --drop 0.05 --url "$address/onespan/callback" \
  --serve "$port" --api-key "$ONESPAN_API_KEY" &
onespan=$!
wait "$onespan"
