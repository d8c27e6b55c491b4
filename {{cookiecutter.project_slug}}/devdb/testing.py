"""A pytest plugin that runs tests on the development database's server."""

import pytest
from django.conf import settings

from . import server


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    """Start the server, on which pytest-django creates the tests' own database."""
    if settings.DEVDB:
        server.start(settings.BASE_DIR)
