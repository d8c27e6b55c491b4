"""Variables for all templates."""

from django.apps import apps
from django.http import HttpRequest


def nav(request: HttpRequest) -> dict[str, dict[str, str]]:
    """Return the links that the apps' configs list in `nav`: URL names by link text."""
    links: dict[str, str] = {}
    for config in apps.get_app_configs():
        links |= getattr(config, "nav", {})
    return {"nav": links}
