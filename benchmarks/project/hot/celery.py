from __future__ import annotations

from benchmarks.project.ours.celery import app as app
