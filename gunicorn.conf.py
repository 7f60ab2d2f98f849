"""How gunicorn serves the shop; `gunicorn shop.wsgi`, started in this folder, reads this file.

An option on the command line wins over one here.
"""

import gc
import os
from typing import Any

worker_class = "shop.server.Worker"
logger_class = "shop.server.Logger"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
threads = 4
# Connections of one process at the same time. A slow client costs one, and no thread.
worker_connections = 800
# Seconds that an idle connection stays open; longer than the idle time of proxies (60 s).
keepalive = 75
graceful_timeout = 15

# No client, and no proxy either, sets the path, the scheme or the script's name by a header. The
# worker above knows no such header; these lines are for the case that another one is chosen.
forwarder_headers = ""
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
header_map = "drop"

control_socket_disable = True


def post_fork(_server: Any, _worker: Any) -> None:
    """Collect no garbage while the process loads the application: gunicorn's hook."""
    gc.disable()


def post_worker_init(worker: Any) -> None:
    """Log that the process has loaded the application: gunicorn's hook. `make up` waits for it.

    The loaded modules stay, so that no later collection searches them while a request waits.
    """
    gc.freeze()
    gc.enable()
    worker.log.info("Serving requests.")
