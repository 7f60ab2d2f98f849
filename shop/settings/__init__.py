"""All settings of the shop, read from the environment; each variable is explained where it is read.

Three sources, the first that knows a variable wins: the environment, the file `.local/run.json`
that a running `manage.py up` leaves (so that a second terminal finds the same database and
broker), the default written here. Whoever sets ALLOWED_HOSTS, or DEBUG to false, runs for real:
then the run file is ignored, SECRET_KEY is required, and cookies and redirects insist on HTTPS.
"""

from .api import *  # noqa: F403  settings are names, all of them
from .apps import *  # noqa: F403  settings are names, all of them
from .broker import *  # noqa: F403  settings are names, all of them
from .business import *  # noqa: F403  settings are names, all of them
from .database import *  # noqa: F403  settings are names, all of them
from .environment import *  # noqa: F403  settings are names, all of them
from .logs import *  # noqa: F403  settings are names, all of them
from .second_factor import *  # noqa: F403  settings are names, all of them
from .web import *  # noqa: F403  settings are names, all of them
