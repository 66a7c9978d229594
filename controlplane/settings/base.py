"""Settings that every environment shares. Everything that differs by place comes from environment variables.

docs/operations.md lists the variables.
"""

import os
from pathlib import Path

import dj_database_url
from csp.constants import NONE, SELF

BASE_DIR = Path(__file__).resolve().parent.parent.parent


def secret(name: str) -> str:
    """The value of ``NAME``, or the contents of the file that ``NAME_FILE`` names; empty if neither is set."""
    path = os.environ.get(f"{name}_FILE")
    return Path(path).read_text().strip() if path else os.environ.get(name, "")


SECRET_KEY = secret("MERIDIAN_SECRET_KEY")
ALLOWED_HOSTS = [host for host in os.environ.get("MERIDIAN_ALLOWED_HOSTS", "").split(",") if host]
CSRF_TRUSTED_ORIGINS = [o for o in os.environ.get("MERIDIAN_CSRF_TRUSTED_ORIGINS", "").split(",") if o]
#: Where clients reach all gateways (a load balancer, anycast); the console says it. Empty: each gateway by itself.
ENDPOINT_URL = os.environ.get("MERIDIAN_ENDPOINT_URL", "").rstrip("/")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "apps.api",
    "apps.accounts",
    "apps.fleet",
    "apps.catalog",
    "apps.deployments",
    "apps.placements",
    "apps.drains",
    "apps.drills",
    "apps.agents",
    "apps.telemetry",
    "apps.incidents",
    "apps.console",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "controlplane.urls"
ASGI_APPLICATION = "controlplane.asgi.application"
MIGRATION_MODULES = {
    app: f"migrations.{app}"
    for app in (
        "api",
        "accounts",
        "fleet",
        "catalog",
        "deployments",
        "placements",
        "drains",
        "drills",
        "agents",
        "telemetry",
        "incidents",
        "console",
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {
    "default": dj_database_url.config(
        default="postgresql://localhost/meridian", conn_max_age=60, conn_health_checks=True
    )
}
VALKEY_URL = os.environ.get("VALKEY_URL", "redis://localhost:6379/0")

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "console:login"
LOGIN_REDIRECT_URL = "console:overview"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.api.parsers.BoundedJSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["apps.api.permissions.ScopedPermission"],
    "DEFAULT_SCHEMA_CLASS": "apps.api.schema.MeridianSchema",
    "DEFAULT_THROTTLE_CLASSES": ["apps.api.throttling.ApiKeyThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "api_key": os.environ.get("MERIDIAN_API_RATE", "1200/minute"),
        "solve": os.environ.get("MERIDIAN_SOLVE_RATE", "60/minute"),
    },
    "EXCEPTION_HANDLER": "apps.api.problems.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Meridian",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "DESCRIPTION": "Serve language models on GPUs rented from many clouds as if they were one pool.",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": ["apps.api.schema.schema_complete"],
    "ENUM_NAME_OVERRIDES": {},
}

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": VALKEY_URL,
        "OPTIONS": {"socket_connect_timeout": 0.5, "socket_timeout": 0.5},  # a hung cache only slows
    }
}

CELERY_BROKER_URL = VALKEY_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    "apps.placements.tasks.placement_improve": {"queue": "full_solve"},
    "apps.placements.tasks.placements_improve": {"queue": "full_solve"},
    "apps.placements.tasks.*": {"queue": "solve"},
    "apps.drains.tasks.*": {"queue": "solve"},
    "apps.drills.tasks.*": {"queue": "solve"},
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 1, "socket_timeout": 5, "max_retries": 0}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = {
    "placements-reconcile": {"task": "apps.placements.tasks.placements_reconcile", "schedule": 5.0},
    "placements-improve": {"task": "apps.placements.tasks.placements_improve", "schedule": 180.0},
    "demand-notice": {"task": "apps.placements.tasks.demand_notice", "schedule": 60.0},
    "hazards-learn": {"task": "apps.placements.tasks.hazards_learn", "schedule": 300.0},
    "deployments-reconcile": {"task": "apps.deployments.tasks.deployments_reconcile", "schedule": 5.0},
    "answers-purge": {"task": "apps.api.tasks.idempotent_answers_purge", "schedule": 3600.0},
    "agents-reconcile": {"task": "apps.agents.tasks.agents_reconcile", "schedule": 5.0},
    "clusters-retired-settle": {"task": "apps.fleet.tasks.clusters_retired_settle", "schedule": 5.0},
    "drains-advance": {"task": "apps.drains.tasks.drains_advance", "schedule": 5.0},
    "drills-advance": {"task": "apps.drills.tasks.drills_advance", "schedule": 5.0},
    "incidents-look": {
        "task": "apps.incidents.tasks.incidents_look",
        "schedule": 2.0,
        "options": {"expires": 10.0},  # a look that comes late is as good as the next one
    },
    "webhooks-deliver": {"task": "apps.incidents.tasks.webhooks_deliver", "schedule": 5.0},
    "deliveries-purge": {"task": "apps.incidents.tasks.deliveries_purge", "schedule": 3600.0},
    "telemetry-purge": {"task": "apps.telemetry.tasks.telemetry_purge", "schedule": 3600.0},
    "tables-reconcile": {"task": "apps.agents.tasks.tables_reconcile", "schedule": 60.0},
}

# The key that signs tables for the workload planes: an Ed25519 private key, PEM (PKCS8).
MERIDIAN_SIGNING_KEY = secret("MERIDIAN_SIGNING_KEY")

# Whether drills may break processes and sockets: only where the whole system is one machine's, to try things on.
MERIDIAN_FAULTS = False

# Webhooks go to these domains and what lies below them, by https; to nobody else while there are none.
MERIDIAN_WEBHOOK_DOMAINS = [
    d.strip().lower() for d in os.environ.get("MERIDIAN_WEBHOOK_DOMAINS", "").split(",") if d.strip()
]
# Whether they may also go to this machine itself, without TLS: for trials.
MERIDIAN_WEBHOOK_LOOPBACK = os.environ.get("MERIDIAN_WEBHOOK_LOOPBACK", "") == "1"

# Whoever shows it may read /metrics; without one, only this machine itself may.
MERIDIAN_METRICS_TOKEN = secret("MERIDIAN_METRICS_TOKEN")
