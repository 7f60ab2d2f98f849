#!/bin/sh
# Run a command of manage.py under systemd, as root, with the user and the settings of the units:
#   deploy/manage.sh outbox status
# Without the settings, manage.py would work on an SQLite file in .local/.
set -eu

exec systemd-run --quiet --wait --collect --pty --pipe \
    --property=User=shop \
    --property=Group=shop \
    --property=WorkingDirectory=/srv/shop \
    --property=EnvironmentFile=/etc/shop/env \
    /srv/shop/.venv/bin/python manage.py "$@"
