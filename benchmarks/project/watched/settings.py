"""The outbox with its admin, and an event with three subscribers."""

from benchmarks.project.ours.settings import *  # noqa: F403  all that ours has

INSTALLED_APPS = [
    *INSTALLED_APPS,  # noqa: F405
    "benchmarks.project.watched",
    "django.contrib.admin",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
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
ROOT_URLCONF = "benchmarks.project.watched.urls"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "static/"
