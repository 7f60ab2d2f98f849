"""The second factor of staff: off, optional or required."""

from __future__ import annotations

from importlib.util import find_spec

from django.core.exceptions import ImproperlyConfigured

from .apps import INSTALLED_APPS, MIDDLEWARE
from .environment import env
from .web import ALLOWED_HOSTS

# SECOND_FACTOR: "off"; "optional": users who have set one up need it; "required": without one,
# staff cannot use anything.
SECOND_FACTOR = env.str("SECOND_FACTOR", default="off")
if SECOND_FACTOR not in {"off", "optional", "required"}:
    raise ImproperlyConfigured(
        f"SECOND_FACTOR is {SECOND_FACTOR!r}. Set it to off, optional or required."
    )

if SECOND_FACTOR != "off":
    if not ALLOWED_HOSTS:
        raise ImproperlyConfigured(
            f"SECOND_FACTOR is {SECOND_FACTOR!r}, and ALLOWED_HOSTS is empty. Set ALLOWED_HOSTS "
            "to the host names of this site: authenticator apps show the first one."
        )
    for _package, _module in (("django-otp", "django_otp"), ("segno", "segno")):
        if find_spec(_module) is None:
            raise ImproperlyConfigured(
                f"SECOND_FACTOR is {SECOND_FACTOR!r}, and {_package} is not installed. Install "
                "the extra second-factor: pip install --require-hashes -r requirements-extras.txt"
            )
    # In this order: the last one removes pages of the others from the admin.
    INSTALLED_APPS += [
        "django_otp",
        "django_otp.plugins.otp_totp",
        "django_otp.plugins.otp_static",
        "shop.second_factor",
    ]
    _after = MIDDLEWARE.index("django.contrib.auth.middleware.AuthenticationMiddleware") + 1
    MIDDLEWARE[_after:_after] = [
        "django_otp.middleware.OTPMiddleware",
        "shop.second_factor.middleware.SecondFactorMiddleware",
    ]
    # The name that an authenticator app shows beside the user's.
    OTP_TOTP_ISSUER = f"Shop {ALLOWED_HOSTS[0]}"
