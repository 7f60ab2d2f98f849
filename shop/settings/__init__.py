"""All settings of the shop, read from the environment. A comment explains each variable.

The first source that has a variable wins: the environment, the file `.local/run.json` that a
running `manage.py up` writes (so that a second terminal uses the same database and broker), the
default here. With ALLOWED_HOSTS set or DEBUG false, the settings are for production: the run file
is ignored, SECRET_KEY is required, and cookies and redirects require HTTPS.
"""

from .api import *  # noqa: F403  settings are names, all of them
from .apps import *  # noqa: F403  settings are names, all of them
from .broker import *  # noqa: F403  settings are names, all of them
from .business import *  # noqa: F403  settings are names, all of them
from .database import *  # noqa: F403  settings are names, all of them
from .drawer import *  # noqa: F403  settings are names, all of them
from .environment import *  # noqa: F403  settings are names, all of them
from .logs import *  # noqa: F403  settings are names, all of them
from .second_factor import *  # noqa: F403  settings are names, all of them
from .web import *  # noqa: F403  settings are names, all of them
