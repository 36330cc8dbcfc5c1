"""The URL of a catalog's server: what it may say, and what of it may be written down.

Purpose: one place that reads such a URL. Invariants: nothing that a URL says reaches for other files and programs than
a certificate; no password is in a message, in a file of the archive or in `without_secrets`.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from emm import InputError

DRIVER: Final = "postgresql+psycopg"
SCHEMES: Final = ("postgresql", "postgres", DRIVER)
SECRETS: Final = ("password",)
SETTINGS: Final = (  # of libpq, that a URL may carry after its `?`; the rest would reach for files and programs
    "host", "hostaddr", "port", "sslmode", "sslrootcert", "connect_timeout", "application_name",
    "target_session_attrs", *SECRETS,
)  # fmt: skip
EXPECTED: Final = "postgresql://[user@]host[:port]/database"


def parsed(url: str) -> sqlalchemy.URL:
    """A catalog's URL; `InputError` where it is none of PostgreSQL's."""
    try:
        found = sqlalchemy.make_url(url)
    except (SQLAlchemyError, ValueError):
        raise InputError("not a catalog's URL", expected=EXPECTED) from None  # it may hold a password
    if found.drivername not in SCHEMES:
        raise InputError("not a catalog's URL", expected=EXPECTED, found=f"{found.drivername}://")
    unknown = sorted(set(found.query) - set(SETTINGS))
    if unknown:
        raise InputError("a catalog's URL has unknown settings", expected=", ".join(SETTINGS), found=unknown)
    return found.set(drivername=DRIVER)


def without_secrets(url: sqlalchemy.URL) -> str:
    """The URL as it may be written down."""
    query = {key: value for key, value in url.query.items() if key not in SECRETS}
    public = sqlalchemy.URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return public.render_as_string(hide_password=False)
