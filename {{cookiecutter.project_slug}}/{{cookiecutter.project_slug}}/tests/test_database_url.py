"""DATABASE_URL, and what Django makes of it."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from ..database_url import DEFAULTS, add_defaults, parse_database_url

NOWHERE = {"USER": "", "PASSWORD": "", "HOST": "", "PORT": "", "NAME": "site"}


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("postgresql:///site", {}),
        ("postgres://a.org/site", {"HOST": "a.org"}),
        ("postgresql://%2Frun%2Fpg/site", {"HOST": "/run/pg"}),
        ("postgresql://[::1]:5433/site", {"HOST": "::1", "PORT": "5433"}),
        ("postgresql://a:1,b:2/site", {"HOST": "a,b", "PORT": "1,2"}),
        ("postgresql://ann@a.org/site", {"USER": "ann", "HOST": "a.org"}),
        (
            "postgresql://ann%40a:%23a%2Fb%3Ac%3F+%25%C3%A9@a.org/site",
            {"USER": "ann@a", "PASSWORD": "#a/b:c?+%é", "HOST": "a.org"},
        ),
    ],
)
def test_a_url_becomes_an_entry_of_databases(url: str, parts: dict[str, str]) -> None:
    database = parse_database_url(url)
    assert database.pop("ENGINE") == "django.db.backends.postgresql"
    assert database.pop("OPTIONS") == DEFAULTS
    assert database == NOWHERE | parts


def test_options_win_over_our_defaults() -> None:
    url = "postgresql:///site?sslmode=verify-full&connect_timeout=9"
    options = {"sslmode": "verify-full", "connect_timeout": "9"}
    assert parse_database_url(url)["OPTIONS"] == DEFAULTS | options
    given = conninfo_to_dict(add_defaults(url))
    assert given == DEFAULTS | options | {"dbname": "site"}


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "must look like postgresql://"),
        ("mysql://a.org/site", "must look like postgresql://"),
        ("postgresql://ann:sec/ret@a.org/site", "must look like postgresql://"),
        ("postgresql://ann:sec?ret@a.org/site", "must look like postgresql://"),
        ("postgresql://ann:sec?ret=1@a.org/site", "must look like postgresql://"),
        ("postgresql://ann:sec#ret@a.org/site", "must look like postgresql://"),
        ("postgresql://ann:sec@ret@a.org/site", "must look like postgresql://"),
        ("postgresql://ann:sec%ret@a.org/site", "must look like postgresql://"),
        ("postgresql://ann:sec ret@a.org/site", "must look like postgresql://"),
        ("postgresql:///site?connect_timeout=x", "bad value for connect_timeout"),
        ("postgresql:///site?pgbouncer=true", "does not have: pgbouncer"),
        ("postgresql:///site?schema=public", "does not have: schema"),
        ("postgresql:///site?conn_max_age=60", "does not have: conn_max_age"),
        ("postgresql:///site?sslmode=required", 'invalid sslmode value: "required"'),
        ("postgresql://a.org:99999/site", 'invalid port number: "99999"'),
        ("postgresql://a,b/site?port=1,2,3", "could not match 3 port numbers"),
        ("postgresql://a.org", "must end in the name of a database"),
    ],
)
def test_an_error_message_never_has_the_password(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        parse_database_url(url)
    assert "sec" not in str(caught.value)
    assert caught.value.__suppress_context__ or not caught.value.__context__
