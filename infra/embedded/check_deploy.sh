#!/bin/sh
# Django's own check of the production settings, with keys made for this one run.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -c "
import sys
from pathlib import Path
from infra.embedded import credentials
from infra.embedded.layout import Layout

layout = Layout(state=Path(sys.argv[1]))
layout.create()
credentials.secret_key_file(layout)
credentials.signing_key_file(layout)
" "$folder/var"
MERIDIAN_SECRET_KEY_FILE="$folder/var/control/secret_key" \
MERIDIAN_SIGNING_KEY_FILE="$folder/var/control/signing_key" \
MERIDIAN_ALLOWED_HOSTS=meridian.example \
DATABASE_URL=postgresql://nobody@127.0.0.1:1/none \
DJANGO_SETTINGS_MODULE=controlplane.settings.production \
    .venv/bin/python manage.py check --deploy --fail-level WARNING
